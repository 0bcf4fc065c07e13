"""What the revocation list asks of Redis, each in one round trip that is answered within 50 ms or given up."""

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from service.revocations.redis_address import RedisAddress, Resolve
from service.revocations.redis_connections import RedisConnections, RedisLogin
from service.revocations.redis_errors import in_words
from service.revocations.store import WITHIN, RevocationsUnavailableError

CONNECTIONS = 8
"""The most that one process opens, beside one for the probe. A command takes about 0.3 ms, and asks for many."""
REVOKED = "clerk-logout:revoked:"
REPORTED = "clerk-logout:reported:"
MARKER = "clerk-logout:list"
"""A value that nobody can guess, set by whoever finds none. While it stays the same, the list is the same."""
PROBE = "probe"
"""In place of a session's id, which starts with ``sess_``."""

PUT = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i, key in ipairs(KEYS) do
  local at, left = ARGV[2 * i - 1], tonumber(ARGV[2 * i]) - now
  if left > 0 then
    local before = redis.pcall('GET', key)
    local before_number = tonumber(before)
    if before_number and before_number < tonumber(at) then at = before end
    redis.call('SET', key, at, 'PX', math.max(left, redis.call('PTTL', key)))
  end
end
"""
"""Keeps the earlier ``at`` and the later end of each key; a value that is none of ours is replaced.

A script, because SET with NX would keep the first ``at`` instead of the earlier one; and because 1,200 sessions in a
MULTI have 2,400 answers, which redis-py's parser reads for 40 to 60 ms, in which the event loop does nothing else.
It is told when an entry ends, not for how long it is kept: Redis may run it long after it was sent, when it was frozen.
"""
CLAIM = """
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'EX', ARGV[2]) then return 0 end
if redis.call('GET', KEYS[1]) == ARGV[1] then return 0 end
return math.max(1, redis.call('PTTL', KEYS[1]))
"""
"""A claim whose answer came too late for the one who asked is still its own when it asks again."""
LOOK = """
redis.call('SET', KEYS[1], ARGV[1], 'NX')
local time = redis.call('TIME')
return {redis.call('GET', KEYS[1]), time[1], time[2]}
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """A signed-out session."""

    session_id: str
    at: float
    """When it was signed out, in seconds since 1970."""
    seconds: float
    """How long from now it is kept."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was found of several sessions at one moment."""

    marker: str | None
    times: Sequence[str | None]
    """When each was signed out, as Redis has it; None where a session is not on the list."""


@dataclass(frozen=True, slots=True)
class Probed:
    """What a look found."""

    marker: str
    is_new_connection: bool
    """The server may be another one than before."""


class RedisCommands:
    """The commands. Each raises ``RevocationsUnavailableError``, whose text says in words what is wrong.

    Args:
        url: ``redis://`` or ``rediss://``, as ``Settings`` allow it; never shown.
        connections: the most that are open at the same time, beside one for ``probe``.
        within: seconds for each command.
        resolve: looks a host name up.
    """

    def __init__(
        self, url: str, *, connections: int = CONNECTIONS, within: float = WITHIN, resolve: Resolve | None = None
    ) -> None:
        login = RedisLogin(url)
        self._address = RedisAddress(login.host, login.port, within=within, resolve=resolve)
        self._connections = RedisConnections(self._address, login, most=connections, within=within)
        self._connection_of_probe = RedisConnections(self._address, login, most=1, within=within)
        self.within = within
        self._name = secrets.token_hex(8)
        self._ahead = 0.0
        """Seconds that Redis's clock is ahead of our monotonic one; known after a probe."""

    async def put(self, entries: Sequence[Entry]) -> None:
        """Put sessions on the list, after a ``probe``; one that is there keeps the earlier ``at`` and the later end."""
        with self._in_words():
            await self._connections.ask(*self._put(entries))

    async def find(self, session_ids: Sequence[str]) -> Found:
        """Give when sessions were signed out, with the marker of that moment."""
        with self._in_words():
            marker, *times = await self._connections.ask("MGET", MARKER, *(REVOKED + one for one in session_ids))
            return Found(marker, times)

    async def claim(self, session_id: str, *, seconds: int) -> float:
        """Claim this session for so many seconds; give 0, or the seconds for which somebody else has claimed it."""
        with self._in_words():
            left = await self._connections.ask("EVAL", CLAIM, 1, REPORTED + session_id, self._name, seconds)
            return int(left) / 1000

    async def probe(self) -> Probed:
        """Do what the others do, over a connection of its own; a Redis that takes no writes is of no use."""
        connection = self._connection_of_probe
        with self._in_words():
            opened, sent = connection.opened, time.monotonic()
            marker, seconds, microseconds = await connection.ask("EVAL", LOOK, 1, MARKER, secrets.token_hex(8))
            self._ahead = int(seconds) + int(microseconds) / 1e6 - sent
            await connection.ask(*self._put([Entry(PROBE, 0.0, 1.0)]))
            await connection.ask("MGET", MARKER, REVOKED + PROBE)
            return Probed(marker, connection.opened > opened)

    async def look_up(self) -> None:
        """Look the host's name up."""
        await self._address.look_up()

    async def close_connections(self) -> None:
        """Close all connections: what comes after goes over new ones, to where the host's name leads then."""
        await self._connections.close()
        await self._connection_of_probe.close()

    async def close(self) -> None:
        """Close the connections for good."""
        self._address.close()
        await self.close_connections()

    def _put(self, entries: Sequence[Entry]) -> list[str | int]:
        now = time.monotonic() + self._ahead
        values = [value for entry in entries for value in (repr(entry.at), round((now + entry.seconds) * 1000))]
        return ["EVAL", PUT, len(entries), *(REVOKED + entry.session_id for entry in entries), *values]

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except RevocationsUnavailableError:
            raise
        except TimeoutError:
            raise RevocationsUnavailableError(f"it did not answer within {self.within * 1000:g} ms") from None
        except Exception as error:  # noqa: BLE001 - redis-py's own mistakes too must not end the looking for Redis
            raise RevocationsUnavailableError(in_words(error)) from None

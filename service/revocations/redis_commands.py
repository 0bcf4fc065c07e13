"""What the revocation list asks of Redis, over redis-py: each question is one Lua script, and may be repeated."""

import asyncio
import os
import secrets
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from service.revocations.revocation_list import RevocationsUnavailableError
from service.telemetry.diagnostics import where

MAX_CONNECTIONS = 9
"""One for each round trip that the store makes at the same time."""
CONNECT_TIMEOUT = 0.5
"""Seconds for TCP and TLS: more than a request has, and the connection is there for those that come later."""
REPLY_TIMEOUT = 0.07
"""Seconds for each reply, those to AUTH and SELECT too: less than a request has, which leaves it time for a retry."""
MAX_ENTRIES = 200
"""In one command, which then takes Redis less than 1 ms."""

REVOKED = "clerk-logout:revoked:"
REPORTED = "clerk-logout:reported:"
MARKER = "clerk-logout:list"
"""A value that nobody can guess, set by whoever finds none. While it stays the same, the list is the same."""
PROBE = REVOKED + "probe"
"""A session's id would start with ``sess_``."""

PUT = """
for i, key in ipairs(KEYS) do
  local at, left = ARGV[2 * i - 1], tonumber(ARGV[2 * i])
  local before = redis.pcall('GET', key)
  local before_number = tonumber(before)
  if before_number and before_number < tonumber(at) then at = before end
  redis.call('SET', key, at, 'PX', math.max(left, redis.call('PTTL', key)))
end
return {}
"""
"""Keeps the earlier ``at`` and the later end of each key; a value that is none of ours is replaced."""
FIND = """
local values = {}
for i, key in ipairs(KEYS) do
  local value = redis.pcall('GET', key)
  values[i] = type(value) == 'table' and 'of another type' or value
end
return values
"""
"""MGET would give nothing for a key of another type, and a signed-out session must not pass because of that."""
CLAIM = """
local claimed = {}
for i, key in ipairs(KEYS) do
  redis.call('SET', key, ARGV[1], 'NX', 'EX', ARGV[i + 1])
  claimed[i] = redis.pcall('GET', key) == ARGV[1] and 1 or 0
end
return claimed
"""
"""Made again because no answer came in time, a claim finds that it was its own name that it left."""
LOOK = """
redis.call('SET', KEYS[1], ARGV[1], 'NX')
redis.call('SET', KEYS[2], '0', 'PX', 1000)
redis.call('PTTL', KEYS[2])
return {redis.call('GET', KEYS[1])}
"""

LOST = "Redis: it has lost the list; each process is bringing back what it knows"
NOT_REDIS = "what answers there is not Redis, or not as Redis does"
NOT_ALLOWED = "its user may not run EVAL, GET, PTTL and SET on clerk-logout:*"
REFUSED = "it refused a command"
UNREACHABLE = "it cannot be reached"
CLUSTER = "it is part of a Redis Cluster, which is not supported"
_DESCRIPTIONS: tuple[tuple[str | type[Exception], str], ...] = (
    ("The user executing the script", NOT_ALLOWED),
    ("ACL failure in script", NOT_ALLOWED),
    ("DB index is out of range", "it does not have the database whose number REVOCATIONS_URL names"),
    ("max number of clients reached", "it has as many clients as it allows"),
    (exceptions.BusyLoadingError, "it is still loading its data"),
    (exceptions.AuthenticationError, "it does not accept the user name or the password in REVOCATIONS_URL"),
    (exceptions.NoPermissionError, NOT_ALLOWED),
    (exceptions.ReadOnlyError, "it is a replica, which takes no writes"),
    (exceptions.OutOfMemoryError, "it has no memory left"),
    (exceptions.AskError, CLUSTER),
    (exceptions.ClusterCrossSlotError, CLUSTER),
    (exceptions.TimeoutError, "it did not answer in time"),
    (exceptions.ResponseError, REFUSED),
    (socket.gaierror, "its host name cannot be resolved"),
    (UnicodeError, "its host name cannot be resolved"),  # it can be none, as a..b
    (ssl.SSLError, "TLS with it failed; look at the certificates, and whether it speaks TLS at all"),
    (OSError, UNREACHABLE),
    (exceptions.InvalidResponse, NOT_REDIS),
    (exceptions.ConnectionError, "the connection to it was lost"),
    (ValueError, NOT_REDIS),
)
"""By how the error starts or of what class it is; the first that fits. What the server said is not shown: it may quote
what it was sent."""


class Entry(NamedTuple):
    """A signed-out session: when that was, in seconds since 1970, and how many seconds from now it is kept."""

    session_id: str
    at: float
    seconds: float


class RedisCommands:
    """The commands. Each raises ``RevocationsUnavailableError``, whose text says in words what is wrong.

    Attributes:
        has_new_connection: set with each connection that is made: perhaps to another server. Whoever looks resets it.

    Raises:
        ValueError: an option in the URL cannot be used; the text is one line without a secret.
    """

    def __init__(self, url: str, *, reply_timeout: float = REPLY_TIMEOUT) -> None:
        self.has_new_connection = False
        self._marker: str | None = None
        try:
            pool = BlockingConnectionPool.from_url(
                url,
                max_connections=MAX_CONNECTIONS,
                timeout=None,
                protocol=2,
                decode_responses=True,
                encoding_errors="replace",  # a value that somebody else wrote is no reason to lose all the others
                # Over a fresh connection: an idle one may have been closed, or dropped by the network in silence.
                retry=Retry(NoBackoff(), 1),
                socket_timeout=reply_timeout,
                socket_connect_timeout=CONNECT_TIMEOUT,
                redis_connect_func=self._on_connect,
            )
            connection = pool.make_connection()  # type: ignore[no-untyped-call] # redis-py's has no types
            if isinstance(connection, SSLConnection):
                connection.ssl_context.get()
        except ssl.SSLError:
            raise ValueError("a certificate or key that it names cannot be used") from None
        except OSError as error:
            raise ValueError(f"a certificate or key that it names cannot be read: {error.strerror}") from None
        except (exceptions.RedisError, TypeError, ValueError):
            raise ValueError("an option after ? cannot be used, or not with this kind of URL") from None
        self._redis = Redis.from_pool(pool)
        self._host: str = pool.connection_kwargs.get("host", "localhost")
        self._lookup: asyncio.Future[Any] | None = None

    async def resolve(self) -> None:
        """See that the resolver answers, whatever it says; where it hangs, by one lookup at a time.

        Each takes a thread until it ends, however soon redis-py gives up: those that Clerk's name is looked up in, too,
        and the process does not end before them.
        """
        if self._lookup is None or self._lookup.done():
            lookup = asyncio.get_running_loop().getaddrinfo(self._host, None)
            self._lookup = asyncio.gather(lookup, return_exceptions=True)
        await asyncio.wait({self._lookup}, timeout=CONNECT_TIMEOUT)
        if not self._lookup.done():
            raise RevocationsUnavailableError("Redis: its host name could not be resolved in time")

    async def put(self, batches: Sequence[Sequence[Entry]]) -> Sequence[None]:
        """Put sessions on the list; one that is there keeps the earlier ``at`` and the later end."""
        entries = [entry for batch in batches for entry in batch]
        for start in range(0, len(entries), MAX_ENTRIES):
            some = entries[start : start + MAX_ENTRIES]
            values = [value for one in some for value in (repr(one.at), max(1, round(one.seconds * 1000)))]
            await self._eval(PUT, [REVOKED + one.session_id for one in some], values, replies=0)
        return [None] * len(batches)

    async def find(self, session_ids: Sequence[str]) -> Sequence[str | None]:
        """Give when each session was signed out, as Redis has it; None where it was not.

        Where the list was lost since the last probe, the answer is worth nothing, and ``LOST`` is raised.
        """
        before = self._marker  # as it was when this was asked: a probe may overtake it, and set another
        keys = [MARKER, *(REVOKED + session_id for session_id in session_ids)]
        marker, *times = await self._eval(FIND, keys, [], replies=len(keys))
        if marker != before:
            raise RevocationsUnavailableError(LOST)
        return times

    async def claim(self, claims: Sequence[tuple[str, int]]) -> list[bool]:
        """Claim each session for so many seconds, and say which of them nobody else has claimed."""
        keys, seconds = [REPORTED + session_id for session_id, _ in claims], [seconds for _, seconds in claims]
        claimed = await self._eval(CLAIM, keys, [secrets.token_hex(8), *seconds], replies=len(keys))
        return [one == 1 for one in claimed]

    async def probe(self) -> bool:
        """Do what the others do, and say whether the list was lost since the last probe."""
        (marker,) = await self._eval(LOOK, [MARKER, PROBE], [secrets.token_hex(8)], replies=1)
        before, self._marker = self._marker, marker
        return before not in (None, marker)

    async def eviction_problem(self) -> str | None:
        """Say why sessions may be lost when Redis is full; None where none is, or this user may not ask."""
        with suppress(Exception):  # no question that anything depends on; managed servers refuse it
            policy = (await self._redis.info("memory"))["maxmemory_policy"]
            if policy != "noeviction":
                return f"Redis: its maxmemory-policy is {policy}, so it may forget signed-out sessions; set noeviction"
        return None

    async def disconnect(self) -> None:
        """Close all connections: what comes after goes over new ones, to where the host's name leads then."""
        with suppress(exceptions.RedisError, OSError):
            await self._redis.connection_pool.disconnect()

    async def _eval(self, script: str, keys: list[str], values: Sequence[str | int], *, replies: int) -> list[Any]:
        try:
            arguments = ("EVAL", script, len(keys), *keys, *values)
            answer = await self._redis.execute_command(*arguments)  # type: ignore[no-untyped-call] # as above
        except Exception as error:  # noqa: BLE001 - whatever redis-py makes of what the server says
            raise RevocationsUnavailableError(f"Redis: {describe_error(error)}") from None
        if not isinstance(answer, list) or len(answer) != replies:
            raise RevocationsUnavailableError(f"Redis: {NOT_REDIS}")
        return answer

    async def _on_connect(self, connection: Connection) -> None:
        await connection.on_connect()
        self.has_new_connection = True


def describe_error(error: BaseException) -> str:
    """Say in one line without a secret what an error of redis-py means, or of the network below it."""
    if isinstance(error, exceptions.ConnectionError) and isinstance(error.__context__, OSError | UnicodeError):
        error = error.__context__  # redis-py wraps the operating system's, which says more
    words = next((words for of, words in _DESCRIPTIONS if _is(error, of)), None) or where(error)
    if words == REFUSED and (code := str(error).partition(" ")[0]).isalpha() and code.isupper():
        return f"{words} ({code})"
    if words == UNREACHABLE and isinstance(error, OSError) and error.errno:
        return f"{words}: {os.strerror(error.errno).lower()}"
    return words


def _is(error: BaseException, of: str | type[Exception]) -> bool:
    return str(error).startswith(of) if isinstance(of, str) else isinstance(error, of)

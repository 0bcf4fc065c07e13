"""What the revocation list asks of Redis: three commands, each answered within 50 ms or given up.

redis-py is set up so that nothing but ``WITHIN`` decides how long anything takes: it retries nothing, and a command
that is given up has its connection closed, because the answer would still come and be taken for that of the next one
(``AbstractConnection.read_response`` does that for every exception, a cancellation included; a test holds it).
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from service.diagnostics import where
from service.revocations.store import RevocationsUnavailableError

WITHIN = 0.05
"""Seconds for one command: waiting for a connection, looking the name up, connecting, and the answer, all together."""
CONNECTIONS = 16
"""The most that one process opens. A command takes about 0.3 ms, so this many serve thousands of requests a second."""
DEFAULT_PORT = 6379
REVOKED = "clerk-logout:revoked:"
REPORTED = "clerk-logout:reported:"
PROBE = "probe"
"""In place of a session's id, which starts with ``sess_``."""

PUT = """
for i, key in ipairs(KEYS) do
  local at, milliseconds = ARGV[2 * i - 1], tonumber(ARGV[2 * i])
  local before = redis.call('GET', key)
  if before and tonumber(before) < tonumber(at) then at = before end
  redis.call('SET', key, at, 'PX', math.max(milliseconds, redis.call('PTTL', key)))
end
"""
"""Keeps the earlier ``at`` and the later end of each key.

A script, because SET with NX would keep the first ``at`` instead of the earlier one; and because 1,200 sessions in a
MULTI have 2,400 answers, which redis-py's parser reads for 40 to 60 ms, in which the event loop does nothing else.
"""

Resolve = Callable[[str, int], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Entry:
    """A signed-out session."""

    session_id: str
    at: float
    """When it was signed out, in seconds since 1970."""
    seconds: float
    """How long from now it is kept."""


class RedisCommands:
    """The commands. Each raises ``RevocationsUnavailableError``, whose text says in words what is wrong.

    Args:
        url: ``redis://`` or ``rediss://``, as ``Settings`` allow it; never shown.
        connections: the most that are open at the same time.
        within: seconds for each command.
        resolve: looks a host name up.
    """

    def __init__(
        self, url: str, *, connections: int = CONNECTIONS, within: float = WITHIN, resolve: Resolve | None = None
    ) -> None:
        address = urlsplit(url)
        self._address = address.hostname or "localhost", address.port or DEFAULT_PORT
        self._within = within
        self._resolve = resolve or _resolve
        self._lookup: asyncio.Future[tuple[object]] | None = None
        # redis-py's own pool raises when it is exhausted; here a command waits for its turn instead.
        self._turns = asyncio.Semaphore(connections)
        self._client = Redis.from_url(
            url,
            max_connections=connections,
            protocol=2,
            decode_responses=True,
            retry=Retry(NoBackoff(), 0),
            socket_connect_timeout=within,
            # None, because the whole command has its time already, and redis-py would start a task for each write.
            socket_timeout=None,
        )

    async def put(self, entries: Sequence[Entry]) -> None:
        """Put sessions on the list; one that is there already keeps the earlier ``at`` and the later end."""
        keys = [REVOKED + entry.session_id for entry in entries]
        values = [value for entry in entries for value in (repr(entry.at), max(1, round(entry.seconds * 1000)))]
        async with self._in_time():
            await self._client.eval(PUT, len(keys), *keys, *values)

    async def get(self, session_id: str) -> float | None:
        """Give when the session was signed out, or None where it is not on the list."""
        async with self._in_time():
            at = await self._client.get(REVOKED + session_id)
            return None if at is None else float(at)

    async def claim(self, session_id: str, *, seconds: int) -> bool:
        """Say whether nobody has claimed this session within so many seconds."""
        async with self._in_time():
            return bool(await self._client.set(REPORTED + session_id, "1", nx=True, ex=seconds))

    async def probe(self) -> None:
        """Do what the others do: a Redis that answers but takes no writes is of no use."""
        await self.put([Entry(PROBE, 0.0, 1.0)])
        await self.get(PROBE)
        await self.claim(PROBE, seconds=1)

    async def resolve(self) -> None:
        """Look the host's name up, one lookup at a time.

        A lookup holds a thread, also when nobody waits for it any more. A resolver that hangs would soon hold all of
        them, if each attempt to connect began another one.
        """
        lookup = self._lookup or asyncio.gather(self._resolve(*self._address), return_exceptions=True)
        self._lookup = lookup
        await asyncio.wait({lookup}, timeout=self._within)
        if not lookup.done():
            raise RevocationsUnavailableError("its host name could not be looked up in time")
        self._lookup = None
        if isinstance(error := lookup.result()[0], Exception):
            raise RevocationsUnavailableError(_in_words(error))

    async def close(self) -> None:
        """Close the connections."""
        if self._lookup is not None:
            self._lookup.cancel()
        with suppress(exceptions.RedisError, OSError):
            await self._client.aclose()

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._within), self._turns:
                yield
        except (TimeoutError, exceptions.TimeoutError):
            raise RevocationsUnavailableError(f"it did not answer within {self._within * 1000:g} ms") from None
        except Exception as error:  # noqa: BLE001 - redis-py's own mistakes too must not end the looking for Redis
            raise RevocationsUnavailableError(_in_words(error)) from None


async def _resolve(host: str, port: int) -> object:
    return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)


_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (exceptions.BusyLoadingError, "it is still loading its data"),
    (exceptions.AuthenticationError, "it does not accept the user name or the password in REVOCATIONS_URL"),
    (exceptions.NoPermissionError, "its user may not run EVAL, GET and SET on keys that start with clerk-logout:"),
    (exceptions.ReadOnlyError, "it is a replica, which takes no writes"),
    (exceptions.OutOfMemoryError, "it has no memory left"),
    (exceptions.InvalidResponse, "what answers there is not Redis"),
    (socket.gaierror, "its host name cannot be resolved"),
    (ssl.SSLError, "TLS with it failed; look at its certificate, and whether it speaks TLS at all"),
    (ValueError, "it holds a value that this service did not write"),
)
"""The first that fits. What the server said is not shown: it may quote what it was sent."""
_SAID = {
    "DB index is out of range": "it does not have the database whose number REVOCATIONS_URL names",
    "max number of clients reached": "it has as many clients as it allows",
}
"""For errors that have no class of their own."""


def _in_words(error: BaseException) -> str:
    # redis-py makes its own error of the operating system's, which is the one that says something.
    if type(error) is exceptions.ConnectionError and isinstance(error.__context__, OSError):
        error = error.__context__
    for kind, words in _WORDS:
        if isinstance(error, kind):
            return words
    if isinstance(error, OSError):
        return f"it cannot be reached: {error.strerror.lower()}" if error.strerror else "it cannot be reached"
    if isinstance(error, exceptions.RedisError) and str(error) in _SAID:
        return _SAID[str(error)]
    if isinstance(error, exceptions.ResponseError):
        code = str(error).partition(" ")[0]
        return f"it refused a command ({code})" if code.isalpha() and code.isupper() else "it refused a command"
    if isinstance(error, exceptions.ConnectionError):
        return "the connection to it was lost"
    return where(error)

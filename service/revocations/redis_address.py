"""Where Redis is: the addresses behind its host name, looked up without ever holding anything up."""

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress

from service.revocations.patience import Patience
from service.revocations.redis_errors import in_words
from service.revocations.store import RevocationsUnavailableError

Resolve = Callable[[str, int], Awaitable[list[str]]]


class RedisAddress:
    """The host.

    Args:
        host: a name, or an address, which needs no lookup.
        port: of Redis.
        within: seconds for which ``look_up`` waits.
        resolve: looks a name up.
    """

    def __init__(self, host: str, port: int, *, within: float, resolve: Resolve | None = None) -> None:
        self.host = host
        self.port = port
        self.addresses: list[str] = [host] if _is_numeric(host) else []
        """Found last, in the order in which they are to be tried."""
        self._within = within
        self._resolve = resolve or resolve_in_a_thread
        self._lookup: asyncio.Future[tuple[list[str] | BaseException]] | None = None

    async def look_up(self) -> None:
        """Look the name up, one lookup at a time: a resolver that hangs would soon hold as many threads as looks.

        Raises:
            RevocationsUnavailableError: it has no address, or nobody says so in time; the lookup then goes on.
        """
        if _is_numeric(self.host):
            return
        lookup = self._lookup or asyncio.gather(self._resolve(self.host, self.port), return_exceptions=True)
        self._lookup = lookup
        try:
            async with Patience(self._within):
                (found,) = await asyncio.shield(lookup)
        except TimeoutError:
            raise RevocationsUnavailableError("its host name could not be looked up in time") from None
        self._lookup = None
        if isinstance(found, BaseException):
            raise RevocationsUnavailableError(in_words(found))
        self.addresses = found

    def close(self) -> None:
        """Wait for no lookup any more."""
        if self._lookup is not None:
            self._lookup.cancel()


async def resolve_in_a_thread(host: str, port: int) -> list[str]:
    """Look a name up in a thread that does not hold up the end of the process, as one of asyncio's own would.

    A lookup takes up to half a minute where no name server answers, and cannot be stopped.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[str]] = loop.create_future()

    def tell(found: list[str] | Exception) -> None:
        if answer.done():
            return
        if isinstance(found, Exception):
            answer.set_exception(found)
        else:
            answer.set_result(found)

    def run() -> None:
        found: list[str] | Exception
        try:
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found = [str(info[4][0]) for info in infos]
        except Exception as error:  # noqa: BLE001 - the loop is told of it
            found = error
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(tell, found)

    threading.Thread(target=run, name="redis-lookup", daemon=True).start()
    return await answer


def _is_numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True

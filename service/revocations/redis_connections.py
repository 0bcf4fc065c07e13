"""Connections to Redis, over each of which one command goes at a time.

Of redis-py this uses the connection itself, which speaks the protocol, and neither its client nor its pool: those cost
three times as much processor time, and the pool raises when it is exhausted, where here a command waits for its turn.
"""

import asyncio
import ssl
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from redis import exceptions
from redis.asyncio.connection import Connection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from service.revocations.patience import Patience
from service.revocations.redis_address import RedisAddress
from service.revocations.store import RevocationsUnavailableError


class RedisLogin:
    """What a new connection needs beside the address: user, password, database, and TLS.

    Args:
        url: ``redis://`` or ``rediss://``, as ``Settings`` allow it; never shown.
    """

    def __init__(self, url: str) -> None:
        parts = parse_url(url)
        self.host = parts.get("host", "localhost")
        self.port = parts.get("port", 6379)
        # Made once: it reads all certificates of the system, for 60 ms and more, in which the event loop does nothing.
        self.tls = ssl.create_default_context() if urlsplit(url).scheme == "rediss" else None
        self.username = parts.get("username")
        self.password = parts.get("password")
        self.database = parts.get("db", 0)


class _Connection(Connection):
    """To one address, whose certificate, with TLS, is that of the host's name."""

    def __init__(self, address: str, host: str, port: int, login: RedisLogin) -> None:
        # Nothing is retried and nothing has a time limit in redis-py: the one limit is around all of it.
        super().__init__(
            host=host,
            port=port,
            username=login.username,
            password=login.password,
            db=login.database,
            protocol=2,
            decode_responses=True,
            encoding_errors="replace",  # a value that somebody else wrote is no reason to lose all the others
            retry=Retry(NoBackoff(), 0),
            socket_timeout=None,
            socket_connect_timeout=None,
        )
        self._arguments: dict[str, Any] = {"host": address, "port": port}
        if login.tls is not None:
            self._arguments |= {"ssl": login.tls, "server_hostname": host}

    def _connection_arguments(self) -> dict[str, Any]:
        return self._arguments

    def abort(self) -> None:
        """Drop it at once, and what was not sent yet; what waits for its answer is told that it was closed.

        A TLS connection that is closed in order waits half a minute for a server that does not answer.
        """
        if self._writer is not None:
            self._writer.transport.abort()


class RedisConnections:
    """As many as there are commands at the same time, up to a bound.

    A command that fails, is late or is given up has its connection closed: its answer would still come, and be taken
    for that of the next command; and after any error a new connection may find what has changed at the server.

    Args:
        address: where they lead.
        login: what they need.
        most: the most that are open at the same time.
        within: seconds for one command, a new connection included.
    """

    def __init__(self, address: RedisAddress, login: RedisLogin, *, most: int, within: float) -> None:
        self.within = within
        self.opened = 0
        """How many were opened up to now."""
        self._address = address
        self._login = login
        self._turns = asyncio.Semaphore(most)
        self._open: set[_Connection] = set()
        self._idle: list[_Connection] = []

    async def ask(self, *command: str | int) -> Any:  # noqa: ANN401 - what Redis answers is as the command has it
        """Send a command and give its answer. Waiting for a turn is not part of its time, and is up to the caller.

        Raises:
            TimeoutError: it was sent, or was to be sent over a new connection, and no answer came in time.
            Exception: redis-py's, or the operating system's.
        """
        async with self._turns, Patience(self.within):
            if self._idle:
                # Redis may have closed it, perhaps long ago. Each command may be sent twice without harm.
                with suppress(exceptions.ConnectionError):
                    return await self._ask_over(self._idle.pop(), command)
            return await self._ask_over(await self._connect(), command)

    async def close(self) -> None:
        """Close all of them; a later command opens a new one."""
        self._idle.clear()
        while self._open:
            await self._close(self._open.pop())

    async def _ask_over(self, connection: _Connection, command: tuple[str | int, ...]) -> Any:  # noqa: ANN401 - see ask
        try:
            await connection.send_command(*command)
            answer = await connection.read_response()
        except BaseException:
            self._open.discard(connection)
            await self._close(connection)
            raise
        if connection in self._open:
            self._idle.append(connection)
        return answer

    async def _connect(self) -> _Connection:
        """Open a connection to the first address that has one."""
        problem: Exception = RevocationsUnavailableError("its host name has not been looked up yet")
        for address in self._address.addresses:
            connection = _Connection(address, self._address.host, self._address.port, self._login)
            try:
                await connection.connect()  # type: ignore[no-untyped-call] # redis-py's has no types
            except exceptions.RedisError as error:
                problem = error
            except BaseException:
                await self._close(connection)
                raise
            else:
                self.opened += 1
                self._open.add(connection)
                return connection
        raise problem

    @staticmethod
    async def _close(connection: _Connection) -> None:
        connection.abort()
        with suppress(exceptions.RedisError, OSError):
            await connection.disconnect(nowait=True)

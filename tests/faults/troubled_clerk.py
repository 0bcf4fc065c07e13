"""A stand-in for Clerk's Backend API that fails in every way that it can be told to, and counts the fetches."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

from tests.support.processes import TIMEOUT
from tests.support.signing import jwk


class Fault(StrEnum):
    """What happens to whoever fetches the JWKS."""

    NONE = "none"
    REFUSED = "connection refused"
    HANGING = "hanging"
    DRIPPING = "dripping a byte per second"
    STATUS_500 = "status 500"
    MALFORMED = "malformed JSON"
    EMPTY = "empty key list"


class TroubledClerk:
    """One stand-in on a port of its own. ``fault`` and ``keys`` may be changed at any time, from any thread."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = [jwk()]
        self.fetches: list[float] = []
        """When each fetch arrived, on ``time.monotonic``."""
        self.url = ""
        self._fault = Fault.NONE
        self._server: asyncio.Server | None = None
        self._loop: asyncio.AbstractEventLoop

    @property
    def fault(self) -> Fault:
        return self._fault

    @fault.setter
    def fault(self, fault: Fault) -> None:
        self._fault = fault
        if fault is Fault.REFUSED and self._server is not None:
            self._loop.call_soon_threadsafe(self._server.close)

    async def open(self) -> None:
        """Listen."""
        self._loop = asyncio.get_running_loop()
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.url = "http://{}:{}".format(*self._server.sockets[0].getsockname())

    def close(self) -> None:
        """Listen no more."""
        assert self._server is not None
        self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            self.fetches.append(time.monotonic())
            if self._fault is Fault.HANGING:
                await reader.read()  # until the other side has had enough
            elif self._fault is Fault.DRIPPING:
                for byte in self._response():
                    writer.write(bytes([byte]))
                    await writer.drain()
                    await asyncio.sleep(1)
            else:
                writer.write(self._response())
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _response(self) -> bytes:
        status = "500 Internal Server Error" if self._fault is Fault.STATUS_500 else "200 OK"
        keys = [] if self._fault is Fault.EMPTY else self.keys
        body = b'{"keys": [{"kty": ' if self._fault is Fault.MALFORMED else json.dumps({"keys": keys}).encode()
        head = (
            f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + body


@contextmanager
def stand_in(*clerks: TroubledClerk) -> Iterator[None]:
    """Serve them all from one thread."""
    ready, done = threading.Event(), threading.Event()

    async def serve() -> None:
        for clerk in clerks:
            await clerk.open()
        ready.set()
        await asyncio.to_thread(done.wait)
        for clerk in clerks:
            clerk.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="stand-in for Clerk")
    thread.start()
    assert ready.wait(TIMEOUT)
    try:
        yield
    finally:
        done.set()
        thread.join(TIMEOUT)
        assert not thread.is_alive()

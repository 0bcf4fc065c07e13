"""What uvicorn writes to and closes, in place of a connection's transport."""

import asyncio
from collections.abc import Callable


class PoliteTransport(asyncio.Transport):
    """A transport that holds a response's head until its body comes, and closes without a reset.

    Written by itself the head would be a system call and a packet more. That it may wait is ASGI's ("need not flush",
    HTTP specification, Response Start).

    Args:
        transport: the connection's own.
        hang_up: closes it.
    """

    def __init__(self, transport: asyncio.Transport, hang_up: Callable[[], None]) -> None:
        super().__init__()
        self.is_lingering = False
        self._transport = transport
        self._hang_up = hang_up
        self._head = b""

    def hold(self, head: bytes) -> None:
        """Keep the head of a response until something is written, or the connection is closed."""
        self._head = head

    def write(self, data: bytes) -> None:  # type: ignore[override]  # uvicorn writes nothing else
        """Write, behind a head that was held."""
        if self._head:
            data, self._head = self._head + data, b""
        self._transport.write(data)

    def is_closing(self) -> bool:
        """Tell whether nothing more may be written."""
        return self.is_lingering or self._transport.is_closing()

    def close(self) -> None:
        """Close, without a reset where that can be had."""
        if self.is_closing():
            return
        if self._head:
            self.write(b"")
        self._hang_up()

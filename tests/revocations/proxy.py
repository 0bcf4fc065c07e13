"""The way to Redis: long, or cut without a word."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from tests.support.redis_server import until


class Proxy:
    """Passes bytes on.

    Attributes:
        delay: seconds that bytes take there, and as long back.
        connections: how many it has taken.
        open: how many of them have not ended.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self.port = 0
        self.delay = 0.0
        self.connections = 0
        self.open = 0
        self._last_cut = 0

    def cut(self) -> None:
        """From now on pass nothing on over the connections there are, as a firewall that has forgotten them."""
        self._last_cut = self.connections

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        number = self.connections
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._to)
        await asyncio.gather(self._pass(reader, there_writer, number), self._pass(there_reader, writer, number))
        self.open -= 1

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                if number > self._last_cut:
                    loop.call_later(self.delay, writer.write, data)
        await asyncio.sleep(self.delay)
        writer.close()


@asynccontextmanager
async def proxy_to(port: int) -> AsyncIterator[Proxy]:
    """Open one; close the connections through it before it ends."""
    proxy = Proxy(port)
    async with await asyncio.start_server(proxy.serve, "127.0.0.1", 0) as server:
        proxy.port = server.sockets[0].getsockname()[1]
        yield proxy
        await until(lambda: proxy.open == 0)

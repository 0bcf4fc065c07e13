"""The way to Redis: long, or cut without a word."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Proxy:
    """Passes bytes on.

    Attributes:
        delay: seconds that bytes take there, and as long back.
        connections: how many it has taken.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self.port = 0
        self.delay = 0.0
        self.connections = 0
        self._is_cut: list[asyncio.Event] = []
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def cut(self) -> None:
        """From now on pass nothing on over the connections there are, as a firewall that has forgotten them."""
        for one in self._is_cut:
            one.set()

    async def close(self) -> None:
        """Close the connections there are, and wait for their tasks: one that is cancelled is reported."""
        for writer in self._writers:
            writer.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=10)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._to)
        is_cut = asyncio.Event()
        self._is_cut.append(is_cut)
        self._writers += [writer, there_writer]
        await asyncio.gather(self._pass(reader, there_writer, is_cut), self._pass(there_reader, writer, is_cut))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_cut: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                if not is_cut.is_set():
                    loop.call_later(self.delay, writer.write, data)
        loop.call_later(self.delay, writer.close)


@asynccontextmanager
async def proxy_to(port: int) -> AsyncIterator[Proxy]:
    proxy = Proxy(port)
    async with await asyncio.start_server(proxy.serve, "127.0.0.1", 0) as server:
        proxy.port = server.sockets[0].getsockname()[1]
        yield proxy
        await proxy.close()

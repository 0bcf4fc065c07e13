import asyncio
import os
import signal

from service.workers import stop_when_readable


async def test_a_process_ends_when_the_descriptor_of_its_parent_becomes_readable() -> None:
    """And says so once, although the descriptor stays readable; how workers end is in test_server."""
    signals: asyncio.Queue[int] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, signals.put_nowait, signal.SIGTERM)
    sentinel, parent = os.pipe()
    try:
        stop_when_readable(sentinel)
        os.close(parent)
        assert await signals.get() == signal.SIGTERM
        await asyncio.sleep(0)
        assert not loop.remove_reader(sentinel)
        assert signals.empty()
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
        os.close(sentinel)

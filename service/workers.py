"""Several worker processes: how they end together."""

import asyncio
import os
import signal
import socket
import time
from types import FrameType

import uvicorn
from uvicorn.supervisors import Multiprocess

PATIENCE = 9.0
"""Seconds from the first signal after which a worker that is still there is killed."""


class Supervisor(Multiprocess):
    """The parent of the workers: uvicorn's, with an end to its waiting.

    The first SIGTERM or SIGINT lets the workers finish what is under way; a second one kills them and ends the process
    with 128 + its number.
    """

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket], patience: float = PATIENCE) -> None:
        super().__init__(config, sockets)
        self._patience = patience
        self._told_to_stop_at: float | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if self._told_to_stop_at is not None:
            for worker in self.processes:
                worker.kill()
            os._exit(128 + number)
        self._told_to_stop_at = time.monotonic()
        self.signal_queue.append(number)

    def terminate_all(self) -> None:
        """Tell the workers to end; and stop listening, or clients would connect to where nobody answers any more."""
        for listener in self.sockets:
            listener.close()
        super().terminate_all()

    def join_all(self) -> None:
        """Wait for the workers, and kill those that take too long."""
        until = (self._told_to_stop_at or time.monotonic()) + self._patience
        for worker in self.processes:
            worker.process.join(max(0.0, until - time.monotonic()))
            if worker.exitcode is None:
                worker.kill()
            worker.join()


def stop_when_readable(descriptor: int) -> None:
    """Let this process end, as after a SIGTERM, when a descriptor becomes readable; for use in a running event loop.

    For a worker that is the sentinel of its parent process, which becomes readable when the parent is gone.
    """
    loop = asyncio.get_running_loop()

    def stop() -> None:
        loop.remove_reader(descriptor)
        signal.raise_signal(signal.SIGTERM)

    loop.add_reader(descriptor, stop)

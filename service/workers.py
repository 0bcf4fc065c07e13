"""Several worker processes: how they end together."""

import asyncio
import gc
import os
import signal
import socket
import time
from contextlib import suppress
from types import FrameType
from typing import Any, ClassVar

import uvicorn
from uvicorn.supervisors import multiprocess

PATIENCE = 9.0
"""Seconds from the first signal after which a worker that is still there is killed."""
COLLECT_AFTER = 50_000
"""Objects that are alive more than at the last garbage collection when the next one begins; Python's own is 700.

A request leaves nothing that only the collector frees (one that failed at Redis: two objects). But 512 under way are
60,000 objects, and at 700 each of them would be looked at several times.
"""


class WorkerServer(uvicorn.Server):
    """uvicorn's server, which at its end tells the app to come to one, and answers those who wait to be accepted.

    The kernel would reset their connections when the listener closes, with a request in them that their client has sent
    in full.
    """

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and have the garbage collector pass over all that has been imported and made for it.

        It lives until the end anyway, and a full collection that looks at all of it holds the event loop for 40 ms.
        """
        await super().startup(sockets)
        gc.freeze()
        gc.set_threshold(COLLECT_AFTER)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept what waits, and end."""
        if (stop := self.lifespan.state.get("stop")) is not None:
            stop()
        loop = asyncio.get_running_loop()
        for listener in sockets or ():
            # Nothing is awaited between the last look, which finds nobody, and the closing.
            while waiting := _accept_all(listener):
                for connection in waiting:
                    await loop.connect_accepted_socket(self._protocol, connection)
        await super().shutdown(sockets)

    def _protocol(self) -> asyncio.Protocol:
        make: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = make(self.config, self.server_state, self.lifespan.state)
        return protocol


def _accept_all(listener: socket.socket) -> list[socket.socket]:
    accepted = []
    with suppress(OSError):  # nobody waits any more
        while True:
            connection, _ = listener.accept()
            connection.settimeout(0)
            accepted.append(connection)
    return accepted


class WorkerProcess(multiprocess.Process):
    """uvicorn's worker process with our server; whoever waits for it waits no longer once the end has begun."""

    is_ending: ClassVar[bool] = False

    @property
    def server(self) -> uvicorn.Server:
        """Give the server."""
        if self._server is None:
            self._server = WorkerServer(self.config)
        return self._server

    def ping(self, timeout: float = 5) -> bool:
        """Tell whether the worker answers within so many seconds."""
        until = time.monotonic() + timeout
        try:
            self.parent_conn.send(b"ping")
            while not self.parent_conn.poll(0.1):
                if WorkerProcess.is_ending:
                    return True  # the end will see to it
                if time.monotonic() > until:
                    return False
            self.parent_conn.recv()
        except (OSError, EOFError):
            return False
        return True

    def join(self) -> None:
        """Wait for the worker's end."""
        while self.process.is_alive() and not WorkerProcess.is_ending:
            self.process.join(0.1)


# uvicorn's supervisor names the class where it starts, restarts and adds workers, and takes no other.
multiprocess.Process = WorkerProcess  # type: ignore[misc]  # assigning to a class


class Supervisor(multiprocess.Multiprocess):
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
        WorkerProcess.is_ending = True
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
            worker.process.join()


def stop_when_readable(descriptor: int) -> None:
    """Let this process end, as after a SIGTERM, when a descriptor becomes readable; for use in a running event loop.

    For a worker that is the sentinel of its parent process, which becomes readable when the parent is gone.
    """
    loop = asyncio.get_running_loop()

    def stop() -> None:
        loop.remove_reader(descriptor)
        signal.raise_signal(signal.SIGTERM)

    loop.add_reader(descriptor, stop)

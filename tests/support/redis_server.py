"""A real Redis on a free port of 127.0.0.1 that can be killed, frozen and brought back. It writes nothing to disk."""

import asyncio
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.debian import need
from tests.support.processes import TIMEOUT


class RedisServer:
    """One server; ``start`` after ``kill`` brings it back, empty, on the same port.

    Args:
        options: of redis-server, such as ``--maxclients 10``.
    """

    def __init__(self, *options: str) -> None:
        self._program = need("redis-server", "redis-server")
        self._options = options
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [self._program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen([*command, *self._options], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + TIMEOUT
        while not self._answers():
            assert self._process.poll() is None, "redis-server ended"
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.005)

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(TIMEOUT)

    def freeze(self) -> None:
        """SIGSTOP: connections are still accepted, by the kernel, and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        # The signal is on its way; the kernel says when it has arrived.
        deadline = time.monotonic() + TIMEOUT
        while self._state() != "T":
            assert time.monotonic() < deadline, "redis-server does not stop"
            time.sleep(0.001)

    def thaw(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def do(self, *words: str) -> str:
        """Send one command over a connection of its own, and give the answer as Redis writes it, without its end."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT) as connection:
            parts = "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
            connection.sendall(f"*{len(words)}\r\n{parts}".encode())
            answer = connection.recv(1 << 16)
        return answer.decode().removesuffix("\r\n")

    def _answers(self) -> bool:
        try:
            return bool(self.do("PING"))
        except OSError:
            return False

    def _state(self) -> str:
        assert self._process is not None
        with open(f"/proc/{self._process.pid}/stat", encoding="utf-8") as stat:  # noqa: PTH123 - no file, but the kernel
            return stat.read().rpartition(")")[2].split()[0]


@contextmanager
def redis_server(*options: str) -> Iterator[RedisServer]:
    """A running server, and none left behind."""
    server = RedisServer(*options)
    server.start()
    try:
        yield server
    finally:
        server.kill()


async def until(condition: "object", timeout: float = TIMEOUT) -> None:
    """Wait until something that happens in the background has happened."""
    assert callable(condition)
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.005)

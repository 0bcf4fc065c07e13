"""A real Redis on a free port of 127.0.0.1 that can be killed, frozen and brought back. It writes nothing to disk."""

import asyncio
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil  # type: ignore[import-untyped] # it brings no types

from tests.support.debian import need
from tests.support.processes import TIMEOUT, free_port, listens, wait_until

_LET_PASS = """
for _, key in ipairs(redis.call('KEYS', '*')) do
  local left = redis.call('PTTL', key)
  if left >= 0 then redis.call('PEXPIRE', key, left - tonumber(ARGV[1])) end
end
"""


class RedisServer:
    """One server; ``start`` after ``kill`` brings it back, empty, on the same port.

    Args:
        options: of redis-server, such as ``--maxclients 10``.
        tls: certificate and key, where it is to speak TLS; ``do`` and what stands on it cannot be used then.
    """

    def __init__(self, *options: str, tls: tuple[Path, Path] | None = None) -> None:
        self._program = need("redis-server", "redis-server")
        self._options = options
        self._tls = tls
        self.port = free_port()
        self._process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it and wait until it answers."""
        port = ["--port", str(self.port)]
        if self._tls is not None:
            certificate, key = map(str, self._tls)
            port = ["--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no"]
            port += ["--tls-cert-file", certificate, "--tls-key-file", key]
        command = [self._program, *port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen([*command, *self._options], stdout=subprocess.DEVNULL)
        wait_until(lambda: listens(self.port), "redis-server listens")
        if self._tls is None:
            self.do("PING")  # then it has let go of whoever looked whether it listens

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait(TIMEOUT)

    def freeze(self) -> None:
        """SIGSTOP: connections are still accepted, by the kernel, and nothing is answered."""
        self._process.send_signal(signal.SIGSTOP)
        # The signal is on its way; the kernel says when it has arrived.
        wait_until(lambda: psutil.Process(self._process.pid).status() == psutil.STATUS_STOPPED, "redis-server stops")

    def thaw(self) -> None:
        """SIGCONT."""
        self._process.send_signal(signal.SIGCONT)

    def do(self, *words: str) -> str:
        """Send one command over a connection of its own, and give the answer as Redis writes it, without its end."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT) as connection:
            encoded = [word.encode(errors="surrogateescape") for word in words]
            parts = b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded)
            connection.sendall(b"*%d\r\n%s" % (len(words), parts))
            answer = connection.recv(1 << 16)
        return answer.decode().removesuffix("\r\n")

    def let_pass(self, seconds: float) -> None:
        """Have time pass for all keys: those whose time is then over are gone."""
        self.do("EVAL", _LET_PASS, "0", str(round(seconds * 1000)))

    def left(self, key: str) -> float:
        """Seconds until the key is gone; negative where it is not there, or stays for ever."""
        return int(self.do("PTTL", key).removeprefix(":")) / 1000

    def keys(self) -> int:
        """How many there are."""
        return int(self.do("DBSIZE").removeprefix(":"))


@contextmanager
def redis_server(*options: str) -> Iterator[RedisServer]:
    """A running server, and none left behind."""
    server = RedisServer(*options)
    server.start()
    try:
        yield server
    finally:
        server.kill()


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something that happens in the background has happened."""
    async with asyncio.timeout(TIMEOUT):
        while not condition():  # noqa: ASYNC110 - the condition is that of another program
            await asyncio.sleep(0.005)

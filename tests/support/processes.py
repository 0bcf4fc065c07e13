"""The service as a process of its own, as an operator runs it."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import httpx

from tests.support.signing import ORIGIN, pem
from tests.support.webhooks import signed

ROOT = Path(__file__).parents[2]
TIMEOUT = 60
"""Seconds after which something that should have happened long ago fails the test."""


def ask_session(url: str, token: str) -> httpx.Response:
    """Ask whether a token counts, as often as the service says that it cannot tell for the moment.

    On a machine that is busy with other tests a Redis may take more than the 100 ms that it has.
    """
    deadline = time.monotonic() + TIMEOUT
    while True:
        answer = httpx.get(f"{url}/v1/auth/session", headers={"Authorization": f"Bearer {token}"}, timeout=TIMEOUT)
        if answer.status_code != 503 or time.monotonic() > deadline:
            return answer


def environment(**changes: str) -> dict[str, str]:
    """The environment of a service with a PEM key on a free port; nothing else of the test run's settings leaks in."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("CLERK_", "EVENT_"))}
    own = {"CLERK_JWT_KEY": pem(), "CLERK_AUTHORIZED_PARTIES": ORIGIN, "PORT": "0"}
    own |= {"FLOOD_PER_SECOND": "1000000", "FLOOD_PER_SESSION": "0"}  # tests call far more often than any client
    return inherited | own | changes


def wait_until(holds: Callable[[], bool], what: str, seconds: float = TIMEOUT) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.01)


def until_status(status: int, ask: Callable[[], httpx.Response]) -> httpx.Response:
    """Ask until the answer is that: where the machine is busy, Redis may take longer than the 100 ms that it has."""
    deadline = time.monotonic() + TIMEOUT
    while (answer := ask()).status_code != status:
        assert time.monotonic() < deadline, answer.text
    return answer


def free_port() -> int:
    """A port of 127.0.0.1 that the kernel gives nobody else before this process ends; who names it may have it.

    A socket stays bound to it that does not listen, so others with ``SO_REUSEADDR`` may bind theirs, too.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    port: int = holder.getsockname()[1]
    holder.detach()
    return port


def listens(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def running(command: Sequence[str | Path], port: int, **variables: str) -> Iterator[None]:
    """Run a program until the end of the block; it begins when the program listens."""
    with tempfile.TemporaryFile() as errors:  # a pipe would fill, and hold the program up
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, env=os.environ | variables)
        try:
            wait_until(lambda: listens(port) or process.poll() is not None, f"{command[0]} listens")
            errors.seek(0)
            assert process.poll() is None, errors.read()
            yield
        finally:
            process.terminate()
            process.wait(TIMEOUT)


class Server:
    """A started ``python -m service serve``."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        self.diagnostics: list[dict[str, str]] = []
        self.url = self.wait_for("listening on ").removeprefix("listening on ")

    def wait_for(self, text: str) -> str:
        """Wait until a diagnostic has said this since the start; give all that it said."""
        assert self.process.stderr is not None
        while not (found := [line["message"] for line in self.diagnostics if text in line["message"]]):
            line = self.process.stderr.readline()
            assert line, f"it did not say {text!r}: {self.diagnostics}"
            self.diagnostics.append(json.loads(line))
        return found[0]

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        return host, int(port)

    def stop(self, signal_number: int = 15) -> int:
        """Send a signal, give the exit code; collects the rest of the diagnostics."""
        self.process.send_signal(signal_number)
        _, err = self.process.communicate(timeout=TIMEOUT)
        self.diagnostics += [json.loads(line) for line in (err or b"").splitlines()]
        return self.process.returncode


@contextmanager
def started(
    command: Sequence[str], variables: Mapping[str, str], stdout: "int | IO[bytes]" = subprocess.PIPE
) -> Iterator["subprocess.Popen[bytes]"]:
    """Start ``python -m service`` with a command, and leave no process behind."""
    process = subprocess.Popen(
        [sys.executable, "-m", "service", *command],
        cwd=ROOT,  # where the package is found, wherever the test is
        env=environment(**variables),
        stdout=stdout,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise


@contextmanager
def serve(
    stdout: "int | IO[bytes]" = subprocess.DEVNULL, settings: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Start the service, and wait until it listens."""
    with (
        tempfile.TemporaryDirectory(prefix="clerk-logout-spool-") as spool,
        started(["serve"], {"EVENT_SPOOL_DIR": spool} | dict(settings or {}), stdout) as process,
    ):
        yield Server(process)


@contextmanager
def request_under_way(server: Server) -> Iterator[socket.socket]:
    """A client whose request does not end: it holds a shutdown up for as long as it can.

    The server needs ``CLERK_WEBHOOK_SIGNING_SECRET``.
    """
    head = "".join(f"{name}: {value}\r\n" for name, value in signed(b"{}").items())
    with socket.create_connection(server.address, TIMEOUT) as client:
        head = f"POST /v1/webhooks/clerk HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n{head}\r\n"
        client.sendall(head.encode())
        assert client.recv(100).startswith(b"HTTP/1.1 100"), "the body is not read"
        yield client

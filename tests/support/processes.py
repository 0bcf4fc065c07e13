"""The service as a process of its own, as an operator runs it."""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import psutil  # type: ignore[import-untyped]

from tests.support.signing import ORIGIN, pem

ROOT = Path(__file__).parents[2]
TIMEOUT = 30
"""Seconds after which something that should have happened long ago fails the test."""


def environment(**changes: str) -> dict[str, str]:
    """The environment of a service with a PEM key on a free port; nothing else of the test run's settings leaks in."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("CLERK_", "EVENT_"))}
    own = {"CLERK_JWT_KEY": pem(), "CLERK_AUTHORIZED_PARTIES": ORIGIN, "PORT": "0"}
    own |= {"FLOOD_PER_SECOND": "1000000", "FLOOD_PER_SESSION": "0"}  # tests call far more often than any client
    return inherited | own | changes


class Server:
    """A started ``python -m service serve``."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        self.diagnostics: list[dict[str, str]] = []
        self.url = self._wait_until_listening()

    def _wait_until_listening(self) -> str:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.diagnostics.append(json.loads(line))
            if found := re.fullmatch(r"listening on (http://\S+)", self.diagnostics[-1]["message"]):
                return found[1]
        raise AssertionError(f"it did not start: {self.diagnostics}")

    def wait_for(self, text: str, times: int = 1) -> None:
        """Wait until so many diagnostics have said this since the start."""
        assert self.process.stderr is not None
        while sum(text in line["message"] for line in self.diagnostics) < times:
            line = self.process.stderr.readline()
            assert line, f"it did not say {text!r}: {self.diagnostics}"
            self.diagnostics.append(json.loads(line))

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        return host, int(port)

    def workers(self) -> list[psutil.Process]:
        """The worker processes; multiprocessing has a child of its own beside them."""
        children = psutil.Process(self.process.pid).children()
        return [child for child in children if not any("resource_tracker" in part for part in child.cmdline())]

    def stop(self, signal_number: int = 15) -> int:
        """Send a signal, give the exit code; collects the rest of the diagnostics."""
        self.process.send_signal(signal_number)
        _, err = self.process.communicate(timeout=TIMEOUT)
        self.diagnostics += [json.loads(line) for line in (err or b"").splitlines()]
        return self.process.returncode


@contextmanager
def serve(
    stdout: "int | IO[bytes]" = subprocess.DEVNULL, settings: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Start ``python -m service serve``, wait until it listens, and leave no process behind."""
    with tempfile.TemporaryDirectory(prefix="clerk-logout-spool-") as spool:
        process = subprocess.Popen(
            [sys.executable, "-m", "service", "serve"],
            cwd=ROOT,  # where the package is found, wherever the test is
            env=environment(**({"EVENT_SPOOL_DIR": spool} | dict(settings or {}))),
            stdout=stdout,
            stderr=subprocess.PIPE,
        )
        try:
            yield Server(process)
        finally:
            # Not killed at once: workers outlive a parent that was, and hold the pipe that is read to its end here.
            process.terminate()
            try:
                process.communicate(timeout=TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                raise


@contextmanager
def request_under_way(address: tuple[str, int]) -> Iterator[socket.socket]:
    """A client that does not read its responses: it holds a shutdown up for as long as it can."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(TIMEOUT)
    client.connect(address)
    with client:
        # Several workers listen before they have started; one that does not read yet must not be taken for a full one.
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: service\r\n\r\n")
        assert client.recv(1)
        client.settimeout(0.5)
        with suppress(TimeoutError):
            while True:
                client.sendall(b"GET /v1/events/schema HTTP/1.1\r\nHost: service\r\n\r\n" * 100)
        yield client

"""Clients that send nothing, slowly, far too much, or do not read."""

import contextlib
import http.client
import json
import resource
import selectors
import signal
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from typing import Self

import psutil  # type: ignore[import-untyped]
import pytest

from tests.faults.conftest import Figure
from tests.support.processes import TIMEOUT, Server, request_under_way, serve
from tests.support.signing import token

SILENT = 1000
DRIPPING = 200
CLOSED_WITHIN = 20
"""Seconds."""
STALL = 0.050
"""Seconds that the event loop may stand still at the most."""
MAX_STOP = 10
"""Seconds from SIGTERM to the end."""

pytestmark = pytest.mark.fault


def p99(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=100)[98]


def logouts(server: Server, *, until: Callable[[int], bool]) -> list[float]:
    """Log out again and again until told to stop; give the seconds that each took."""
    connection = http.client.HTTPConnection(*server.address, timeout=TIMEOUT)
    seconds: list[float] = []
    while not until(len(seconds)):
        headers = {"Authorization": f"Bearer {token()}"}
        started = time.perf_counter()
        connection.request("DELETE", "/v1/auth/session", headers=headers)
        response = connection.getresponse()
        body = response.read()
        seconds.append(time.perf_counter() - started)
        assert response.status == 200
        assert json.loads(body)["recorded"] is True
        time.sleep(0.005)
    connection.close()
    return seconds


@pytest.fixture
def many_files() -> Iterator[None]:
    """Let this process have as many sockets as the service."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Idlers:
    """Connections that send nothing, or a byte a second of a head without an end."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.opened: dict[socket.socket, float] = {}
        self.lived: list[float] = []
        self._dripping: list[socket.socket] = []
        self._selector = selectors.DefaultSelector()
        for number in range(SILENT + DRIPPING):
            connection = socket.create_connection(address, TIMEOUT)
            connection.settimeout(0)
            self.opened[connection] = time.monotonic()
            self._selector.register(connection, selectors.EVENT_READ, connection)
            if number < DRIPPING:
                self._dripping.append(connection)
                connection.send(b"DELETE /v1/auth/session HTTP/1.1\r\nX-Slow: ")

    def watch(self) -> None:
        """Drip, and note when each is closed, until all are."""
        begun = next_drop = time.monotonic()
        while self.opened and time.monotonic() < begun + 3 * CLOSED_WITHIN:
            if time.monotonic() >= next_drop:
                next_drop += 1
                for connection in self._dripping:
                    with contextlib.suppress(OSError):
                        connection.send(b"a")
            for key, _ in self._selector.select(max(0.0, next_drop - time.monotonic())):
                connection = key.data
                with contextlib.suppress(ConnectionResetError):
                    assert connection.recv(100) == b""
                self._selector.unregister(connection)
                self.lived.append(time.monotonic() - self.opened.pop(connection))
                connection.close()
                if connection in self._dripping:
                    self._dripping.remove(connection)

    def close(self) -> None:
        for connection in self.opened:
            connection.close()
        self._selector.close()


@pytest.mark.usefixtures("many_files")
def test_silent_and_dripping_connections_harm_nobody_and_are_closed(figure: Figure) -> None:
    with serve() as server:
        before = logouts(server, until=lambda count: count >= 1500)
        idlers = Idlers(server.address)
        watcher = threading.Thread(target=idlers.watch)
        watcher.start()
        beside = logouts(server, until=lambda _: not watcher.is_alive())
        watcher.join()
        idlers.close()
        files = psutil.Process(server.process.pid).num_fds()
        assert server.stop() == 0
    assert len(idlers.lived) == SILENT + DRIPPING
    figure("idle connections: the last one closed after", max(idlers.lived), "s", bound=CLOSED_WITHIN)
    figure("p99 of logouts without them", p99(before) * 1000, "ms")
    figure("p99 of logouts beside them", p99(beside) * 1000, "ms", bound=2 * p99(before) * 1000 + 10)
    figure("open files afterwards", files)


class Pulse:
    """Asks for ``/healthz`` every 2 ms and notes how long the worst answer took."""

    def __init__(self, server: Server) -> None:
        self._connection = socket.create_connection(server.address, TIMEOUT)
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.seconds: list[float] = []

    def _run(self) -> None:
        while not self._stop.wait(0.002):
            started = time.perf_counter()
            self._connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: service\r\n\r\n")
            answer = b""
            while not answer.endswith(b'{"status":"ok"}'):
                more = self._connection.recv(4096)
                assert more
                answer += more
            self.seconds.append(time.perf_counter() - started)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._connection.close()


HEADS = {
    f"{size // 1024} KB {name}": head
    for size in (8 << 10, 64 << 10, 512 << 10, 8 << 20)
    for name, head in {
        "in one header": b"DELETE /v1/auth/session HTTP/1.1\r\nX: " + b"a" * size + b"\r\n\r\n",
        "in many headers": b"DELETE /v1/auth/session HTTP/1.1\r\n" + b"a:b\r\n" * (size // 5) + b"\r\n",
        "in the URL": b"DELETE /v1/auth/session?" + b"a" * size + b" HTTP/1.1\r\n\r\n",
    }.items()
}


def send(server: Server, head: bytes) -> bytes:
    """Send a head and give the answer's status."""
    with socket.create_connection(server.address, TIMEOUT) as connection:
        connection.sendall(head)
        return connection.recv(4096)[9:12]


def test_headers_of_any_size_stall_nobody_and_leave_nothing_behind(figure: Figure) -> None:
    with serve() as server:
        process = psutil.Process(server.process.pid)
        for head in [*HEADS.values()] * 20:  # what is allocated once is allocated now
            send(server, head)
        with Pulse(server) as noise:
            time.sleep(5)
        memory = process.memory_info().rss
        with Pulse(server) as pulse:
            statuses = {name: {send(server, head) for _ in range(100)} for name, head in HEADS.items()}
        memory_after = process.memory_info().rss
        assert server.stop() == 0
    assert {name: status for name, status in statuses.items() if name.startswith("8 KB")} == {
        "8 KB in one header": {b"200"},
        "8 KB in many headers": {b"431"},
        "8 KB in the URL": {b"200"},
    }
    assert {status for name in HEADS if name.startswith(("512", "8192")) for status in statuses[name]} == {b"431"}
    worst, without = max(pulse.seconds), max(noise.seconds)
    figure("slowest /healthz without the heads", without * 1000, "ms")
    figure("slowest /healthz beside the heads", worst * 1000, "ms", bound=max(STALL, 2 * without) * 1000)
    figure("memory afterwards, of that before", memory_after / memory, bound=1.1)


def stop_time(server: Server) -> float:
    """Send SIGTERM; give the seconds until the end, which must be a good one."""
    started = time.monotonic()
    assert server.stop(signal.SIGTERM) == 0
    return time.monotonic() - started


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_client_that_does_not_read_cannot_hold_the_end_up(workers: str, figure: Figure) -> None:
    with serve(settings={"WORKERS": workers}) as server, request_under_way(server.address):
        seconds = stop_time(server)
    figure(f"end while a client does not read, WORKERS={workers}", seconds, "s", bound=MAX_STOP)


def test_pipelined_requests_hold_up_neither_others_nor_the_end(figure: Figure) -> None:
    """100,000 of them, of one client that reads its answers."""
    request = b"DELETE /v1/auth/session HTTP/1.1\r\nHost: service\r\n\r\n"
    with serve() as server, socket.create_connection(server.address, TIMEOUT) as client:

        def write() -> None:
            with contextlib.suppress(OSError):
                client.sendall(request * 100_000)

        def read() -> None:
            with contextlib.suppress(OSError):
                while client.recv(1 << 20):
                    pass

        threads = [threading.Thread(target=target) for target in (write, read)]
        for thread in threads:
            thread.start()
        with Pulse(server) as pulse:
            time.sleep(2)
        seconds = stop_time(server)
        for thread in threads:
            thread.join(TIMEOUT)
    figure("slowest /healthz beside 100,000 pipelined requests", max(pulse.seconds) * 1000, "ms", bound=1000)
    figure("end meanwhile", seconds, "s", bound=MAX_STOP)

"""Clients that send nothing, slowly or far too much, or that do not read: direct, and through nginx."""

import contextlib
import resource
import selectors
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from tests.faults.conftest import Figure
from tests.faults.load import Load, Request, running, steady
from tests.faults.outcome import Outcome
from tests.faults.requests import calls, logouts, valid
from tests.support.processes import TIMEOUT, Server, request_under_way, serve
from tests.support.proxies import nginx
from tests.support.webhooks import SECRET

Address = tuple[str, int]

ATTACKER = "127.0.0.2"
"""Another address than the users', because nginx bounds what one address has under way."""
CLOSED_WITHIN = 20
"""Seconds."""
RATE = 100
"""Logouts per second, of other people."""
STALL = 0.050
"""Seconds that the event loop may stand still at the most."""
MAX_STOP = 10
"""Seconds from SIGTERM to the end."""

DELETE = b"DELETE /v1/auth/session HTTP/1.1\r\nHost: service\r\n"

pytestmark = pytest.mark.fault


@pytest.fixture(autouse=True)
def many_files() -> Iterator[None]:
    """Let this process have as many sockets as the service."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def real_calls() -> Request:
    """What everybody else sends: logouts of many sessions."""
    return logouts(valid(500))


def p99(outcome: Outcome) -> float:
    """That of real calls, each of which was answered and recorded."""
    assert len(outcome.recorded) == len(outcome.answers) > 0
    assert not outcome.unanswered
    return outcome.p99


class Crowd(contextlib.ExitStack):
    """Connections that each send something, then a byte a second.

    Args:
        address: of the server.
        groups: how many connections, what they send first, and whether they drip.
    """

    def __init__(self, address: Address, *groups: tuple[int, bytes, bool]) -> None:
        super().__init__()
        self.lived: list[float] = []
        self.received = Counter[bytes]()
        self._selector = self.enter_context(selectors.DefaultSelector())
        for count, first, drips in groups:
            for _ in range(count):
                client = self.enter_context(socket.create_connection(address, TIMEOUT, (ATTACKER, 0)))
                client.settimeout(0)
                client.send(first)
                self._selector.register(client, selectors.EVENT_READ, (client, time.monotonic(), drips))

    @property
    def open(self) -> int:
        return len(self._selector.get_map())

    def watch(self, seconds: float = 3 * CLOSED_WITHIN) -> None:
        """Drip, and note what is received and when each is closed, until all are or the time is over."""
        begun = next_drop = time.monotonic()
        while self.open and time.monotonic() < begun + seconds:
            if time.monotonic() >= next_drop:
                next_drop += 1
                for key in self._selector.get_map().values():
                    client, _, drips = key.data
                    if drips:
                        with contextlib.suppress(OSError):
                            client.send(b"a")
            for key, _ in self._selector.select(max(0.0, next_drop - time.monotonic())):
                self._read(*key.data)

    def _read(self, client: socket.socket, opened: float, _: bool) -> None:
        with contextlib.suppress(ConnectionResetError):
            if data := client.recv(65536):
                self.received[data[9:12]] += 1
                return
        self._selector.unregister(client)
        self.lived.append(time.monotonic() - opened)
        client.close()


SILENT = (1000, b"", False)
DRIPPING_HEADS = (200, DELETE + b"X-Slow: ", True)
DRIPPING_BODIES = (300, DELETE + b"Content-Length: 100000\r\n\r\n", True)


def test_silent_and_dripping_connections_are_closed(figure: Figure) -> None:
    with serve() as server:
        before = p99(steady(server.url, real_calls(), rate=RATE, seconds=10))
        with (
            Crowd(server.address, SILENT, DRIPPING_HEADS) as crowd,
            running(server.url, real_calls(), rate=RATE) as load,
        ):
            crowd.watch()
            beside = p99(load.stop())
        files = psutil.Process(server.process.pid).num_fds()
        assert server.stop() == 0
    assert len(crowd.lived) == 1200
    figure("idle connections: the last one closed after", max(crowd.lived), "s", bound=CLOSED_WITHIN)
    figure("p99 of logouts without them", before, "ms")
    figure("p99 of logouts beside them", beside, "ms", bound=2 * before + 10)
    figure("open files afterwards", files)


def test_nginx_holds_slow_clients_off(tmp_path: Path, figure: Figure) -> None:
    """1,000 silent ones, 200 whose head drips, 300 whose body does: none has a connection of the service."""
    with serve() as server, nginx(tmp_path, server) as proxy:
        process = psutil.Process(server.process.pid)
        before = p99(steady(proxy.url, real_calls(), rate=RATE, seconds=10))
        with (
            Crowd(proxy.address, SILENT, DRIPPING_HEADS, DRIPPING_BODIES) as crowd,
            running(proxy.url, real_calls(), rate=RATE) as load,
        ):
            crowd.watch(CLOSED_WITHIN)
            beside = p99(load.stop())
            figure("still open through nginx, bodies that drip", crowd.open, bound=200)
            figure("connections of the service meanwhile", len(process.net_connections("tcp")) - 1, bound=64)
        assert server.stop() == 0
    assert crowd.received[b"429"] == 100
    figure("closed through nginx after at most", max(crowd.lived), "s", bound=CLOSED_WITHIN)
    figure("p99 of logouts through nginx without them", before, "ms")
    figure("p99 of logouts through nginx beside them", beside, "ms", bound=2 * before + 10)


@contextlib.contextmanager
def front(through: str, directory: Path, server: Server) -> Iterator[Address]:
    """Give where clients connect: to the service itself, or to nginx before it."""
    with nginx(directory, server) if through == "nginx" else contextlib.nullcontext(server) as answering:
        yield answering.address


def pulse(server: Server) -> AbstractContextManager[Load]:
    """Ask for ``/healthz`` again and again: the slowest answer tells how long the event loop stood still."""
    return running(server.url, calls("GET /healthz"), rate=300, connections=1)


HEADS = {
    f"{size // 1024} KB {name}": head
    for size in (8 << 10, 64 << 10, 512 << 10, 8 << 20)
    for name, head in {
        "in one header": DELETE + b"X: " + b"a" * size + b"\r\n\r\n",
        "in many headers": DELETE + b"a:b\r\n" * (size // 5) + b"\r\n",
        "in the URL": b"DELETE /v1/auth/session?" + b"a" * size + b" HTTP/1.1\r\nHost: service\r\n\r\n",
    }.items()
}


def send(address: Address, sent: bytes) -> bytes:
    """Send a head and give the answer's status."""
    with socket.create_connection(address, TIMEOUT) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(sent)
        return connection.recv(4096)[9:12]


@pytest.mark.parametrize("through", ["direct", "nginx"])
def test_heads_of_any_size_stall_nobody(tmp_path: Path, through: str, figure: Figure) -> None:
    with serve() as server, front(through, tmp_path, server) as address:
        process = psutil.Process(server.process.pid)
        for head in [*HEADS.values()] * 20:  # what is allocated once is allocated now
            send(address, head)
        with pulse(server) as load:
            time.sleep(5)
            noise = load.stop().max
        memory = process.memory_info().rss
        with pulse(server) as load:
            statuses = {name: {send(address, head) for _ in range(100)} for name, head in HEADS.items()}
            slowest = load.stop().max
        memory_after = process.memory_info().rss
        assert server.stop() == 0
    assert statuses["8 KB in one header"] == statuses["8 KB in the URL"] == {b"200"}
    assert statuses["8 KB in many headers"] == {b"431"}
    large = {status for name in HEADS if name.startswith(("512", "8192")) for status in statuses[name]}
    assert large == ({b"431"} if through == "direct" else {b"431", b"414"})
    figure(f"slowest /healthz without the heads, {through}", noise, "ms")
    figure(f"slowest /healthz beside the heads, {through}", slowest, "ms", bound=max(1000 * STALL, 2 * noise))
    figure(f"memory afterwards, of that before, {through}", memory_after / memory, bound=1.1)


def test_a_request_without_an_end_cannot_hold_the_shutdown_up(figure: Figure) -> None:
    with serve(settings={"CLERK_WEBHOOK_SIGNING_SECRET": SECRET}) as server, request_under_way(server):
        started = time.monotonic()
        assert server.stop(signal.SIGTERM) == 0
    figure("end while a request does not", time.monotonic() - started, "s", bound=MAX_STOP)


POST = b"POST /v1/webhooks/clerk HTTP/1.1\r\nHost: service\r\nContent-Length: 30\r\n\r\n" + b"a" * 30
"""Not signed, so nobody needs a credential."""


@pytest.mark.parametrize("through", ["direct", "nginx"])
def test_pipelined_requests_fill_no_memory(tmp_path: Path, through: str, figure: Figure) -> None:
    """Eight clients send 48 posts in about 4 KiB, again and again, as fast as they can, for 10 s."""
    stop = threading.Event()

    def pour(address: Address) -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError), socket.create_connection(address, 1, (ATTACKER, 0)) as client:
                client.settimeout(1)
                while not stop.is_set():
                    client.sendall(POST * 48)
                    with contextlib.suppress(BlockingIOError):
                        while client.recv(1 << 16, socket.MSG_DONTWAIT):
                            pass

    settings = {"CLERK_WEBHOOK_SIGNING_SECRET": SECRET}
    with serve(settings=settings) as server, front(through, tmp_path, server) as address:
        process = psutil.Process(server.process.pid)
        before, peak = process.memory_info().rss, 0
        with ThreadPoolExecutor(8) as pool, contextlib.ExitStack() as stack, pulse(server) as load:
            stack.callback(stop.set)
            pouring = pool.map(pour, [address] * 8)
            for _ in range(100):
                peak = max(peak, process.memory_info().rss)
                time.sleep(0.1)
            slowest = load.stop().max
            started = time.monotonic()
            assert server.stop(signal.SIGTERM) == 0
            seconds = time.monotonic() - started
        assert [*pouring] == [None] * 8
    figure(f"slowest /healthz beside pipelined requests, {through}", slowest, "ms", bound=1000)
    figure(f"memory gained, {through}", (peak - before) / 2**20, "MiB", bound=32)
    figure(f"end meanwhile, {through}", seconds, "s", bound=MAX_STOP)


def test_nginx_cuts_clients_that_do_not_read(tmp_path: Path, figure: Figure) -> None:
    """They send requests until the connection ends, and read no answer."""

    def pour(address: Address) -> float:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(3 * CLOSED_WITHIN)
            client.connect(address)
            started = time.monotonic()
            with contextlib.suppress(ConnectionError):
                while time.monotonic() < started + 3 * CLOSED_WITHIN:
                    client.sendall((DELETE + b"\r\n") * 100)
            return time.monotonic() - started

    with serve() as server, nginx(tmp_path, server) as proxy, ThreadPoolExecutor(4) as pool:
        seconds = max(pool.map(pour, [proxy.address] * 4))
        beside = p99(steady(proxy.url, real_calls(), rate=RATE, seconds=2))
        assert server.stop() == 0
    figure("clients that do not read: cut after", seconds, "s", bound=CLOSED_WITHIN)
    figure("p99 of logouts through nginx afterwards", beside, "ms")

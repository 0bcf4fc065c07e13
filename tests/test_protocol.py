"""The bounds of a connection: most over a real socket, those of time with a clock that the test turns."""

import asyncio
import gc
import resource
import socket
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.server import ServerState

from service.server import (
    DEADLINE,
    LAST_CALL,
    LINGER,
    MAX_FIELDS,
    MAX_HEAD,
    PIECE,
    HttpProtocol,
    Server,
    configure,
    listen,
)
from tests.support.processes import TIMEOUT

GET = b"GET /%d HTTP/1.1\r\nHost: service\r\n\r\n"
BIG = 8 * 1024 * 1024
TOO_LARGE = b'{"success":false,"message":"Request Header Fields Too Large"}'


pytestmark = pytest.mark.usefixtures("logging_as_it_was")


class App:
    """An app that notes what it was asked, and answers with it; ``/hold`` waits until it is let go."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.held = threading.Event()
        self.let_go = threading.Event()

    async def answer(self, request: Request) -> Response:
        self.asked.append(request.url.path)
        if request.url.path == "/hold":
            self.held.set()
            await asyncio.to_thread(self.let_go.wait, TIMEOUT)
        return Response(request.url.path)

    def starlette(self) -> Starlette:
        return Starlette(routes=[Route("/{path:path}", self.answer, methods=["GET", "DELETE"])])


class Running:
    """A server in a thread of its own, on uvloop as in production."""

    def __init__(self, server: Server, address: tuple[str, int], app: App) -> None:
        self.server = server
        self.address = address
        self.app = app

    @contextmanager
    def connection(self) -> Iterator[socket.socket]:
        with socket.create_connection(self.address, TIMEOUT) as connection:
            yield connection

    def accepts(self) -> bool:
        with socket.socket() as connection:
            return connection.connect_ex(self.address) == 0

    def exchange(self, *sent: bytes) -> bytes:
        """Send all, and give what comes until the server closes."""
        with self.connection() as connection:
            for data in sent:
                connection.sendall(data)
            return received(connection)


def received(connection: socket.socket) -> bytes:
    """All that comes until the end; a reset is an error."""
    with connection.makefile("rb") as stream:
        return stream.read()


def bodies(responses: bytes) -> list[bytes]:
    """The bodies of responses that stand one behind the other."""
    found = []
    while responses:
        head, _, responses = responses.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        found.append(responses[:length])
        responses = responses[length:]
    return found


@pytest.fixture
def running() -> Iterator[Running]:
    app = App()
    with listen("127.0.0.1", 0) as listener:
        server = Server(configure(app.starlette(), log_level="critical"))
        address = listener.getsockname()
        thread = threading.Thread(target=server.run, args=[[listener]])
        thread.start()
        try:
            yield Running(server, address, app)
        finally:
            app.let_go.set()
            server.should_exit = True
            thread.join(TIMEOUT)
    assert not thread.is_alive()


CLOSE = b"Connection: close\r\n\r\n"


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"GET / HTTP/1.1\r\nX: " + b"a" * (MAX_HEAD - 100) + b"\r\n" + CLOSE, id="one large header"),
        pytest.param(b"GET /" + b"a" * (MAX_HEAD - 200) + b" HTTP/1.1\r\n" + CLOSE, id="a long URL"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * (MAX_FIELDS - 1) + CLOSE, id="many headers"),
    ],
)
def test_a_head_within_the_bounds_is_served(running: Running, head: bytes) -> None:
    assert running.exchange(head).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "head",
    [
        pytest.param([b"GET / HTTP/1.1\r\nX: " + b"a" * BIG + b"\r\n\r\n"], id="one large header"),
        pytest.param([b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 100_000 + b"\r\n"], id="many headers"),
        pytest.param([b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * (MAX_FIELDS + 1) + b"\r\n"], id="one header too many"),
        pytest.param([b"GET /" + b"a" * BIG + b" HTTP/1.1\r\n\r\n"], id="a long URL"),
        pytest.param([b"GET / HTTP/1.1\r\nX:" + b" " * BIG + b"a\r\n\r\n"], id="white space"),
        pytest.param([b"\r\n" * BIG], id="empty lines"),
        pytest.param([b"GET / HTTP/1.1\r\n", *[b"X: " + b"a" * 1000 + b"\r\n"] * 200], id="a head without an end"),
    ],
)
def test_a_head_beyond_the_bounds_is_refused_and_the_connection_closed(running: Running, head: list[bytes]) -> None:
    answer = running.exchange(*head)
    assert answer.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\ndate: ")
    assert b"\r\nconnection: close\r\n" in answer
    assert b"\r\ncontent-type: application/json\r\n" in answer
    assert bodies(answer) == [TOO_LARGE]
    assert running.app.asked == []


@pytest.mark.parametrize(
    "trailers",
    [
        pytest.param(b"X: " + b"a" * BIG, id="one large trailer"),
        pytest.param(b"X: a\r\n" * 100_000, id="many trailers"),
    ],
)
def test_trailers_without_an_end_close_the_connection_after_the_one_response(running: Running, trailers: bytes) -> None:
    answer = running.exchange(
        b"DELETE / HTTP/1.1\r\nHost: service\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n" + trailers
    )
    assert bodies(answer) == [b"/"]


def test_a_body_is_no_head(running: Running) -> None:
    """Megabytes of it, in chunks and with a length, and the connection serves on."""
    chunked = b"".join(b"1000\r\n" + b"a" * 4096 + b"\r\n" for _ in range(500)) + b"0\r\n\r\n"
    answer = running.exchange(
        b"DELETE /1 HTTP/1.1\r\nHost: service\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked,
        b"DELETE /2 HTTP/1.1\r\nHost: service\r\nContent-Length: 2000000\r\n\r\n" + b"a" * 2_000_000,
        b"GET /3 HTTP/1.1\r\nHost: service\r\n" + CLOSE,
    )
    assert bodies(answer) == [b"/1", b"/2", b"/3"]


def test_pipelined_requests_are_answered_in_their_order(running: Running) -> None:
    """More of them in one go than the head of one may have bytes, of all lengths."""
    count = 20_000
    with running.connection() as connection:
        reader: list[bytes] = []
        thread = threading.Thread(target=lambda: reader.append(received(connection)))
        thread.start()
        connection.sendall(b"".join(GET % number for number in range(count)))
        connection.sendall(b"GET /%s HTTP/1.1\r\n" % (b"a" * 50_000) + CLOSE)
        thread.join(TIMEOUT)
    assert bodies(reader[0]) == [b"/%d" % number for number in range(count)] + [b"/" + b"a" * 50_000]


@pytest.mark.parametrize("count", [0, 1, 3, 2000], ids=["alone", "one", "some", "more than are parsed at once"])
def test_a_client_that_sends_no_more_is_answered(running: Running, count: int) -> None:
    with running.connection() as connection:
        connection.sendall(b"GET /hold HTTP/1.1\r\n\r\n" + b"".join(GET % number for number in range(count)))
        connection.shutdown(socket.SHUT_WR)
        assert running.app.held.wait(TIMEOUT)
        running.app.let_go.set()
        assert bodies(received(connection)) == [b"/hold"] + [b"/%d" % number for number in range(count)]


def test_a_request_that_asks_for_an_upgrade_is_answered_and_is_the_last(running: Running) -> None:
    """What stands behind it would be lost in the parser; so its sender is told at once, and comes again."""
    upgrade = b"GET /1 HTTP/1.1\r\nHost: service\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n"
    answer = running.exchange(upgrade + GET % 2)
    assert bodies(answer) == [b"/1"]
    assert b"connection: close" in answer


def test_connections_leave_some_open_files_to_the_service(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr("service.protocol.RESERVE", soft - 2)
    with running.connection() as first, running.connection() as second:
        for connection in (first, second):
            connection.sendall(GET % 1)
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
        with running.connection() as third, suppress(ConnectionResetError):
            assert third.recv(100) == b""
        first.sendall(GET % 2)
        assert first.recv(100).startswith(b"HTTP/1.1 200")


def test_a_client_that_sends_no_more_and_waits_for_nothing_is_closed(running: Running) -> None:
    with running.connection() as connection:
        connection.shutdown(socket.SHUT_WR)
        assert received(connection) == b""


def test_what_is_refused_does_not_overtake_what_is_served(running: Running) -> None:
    with running.connection() as connection:
        connection.sendall(b"GET /hold HTTP/1.1\r\n\r\n" + GET % 1 + b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 300)
        assert running.app.held.wait(TIMEOUT)
        running.app.let_go.set()
        assert bodies(received(connection)) == [b"/hold", b"/1", TOO_LARGE]


def test_what_is_no_request_is_refused(running: Running) -> None:
    answer = running.exchange(b"\0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert bodies(answer) == [b'{"success":false,"message":"Bad Request"}']


def test_a_request_that_goes_wrong_after_its_response_gets_no_second_one(running: Running) -> None:
    with running.connection() as connection:
        connection.sendall(b"DELETE /1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        first = connection.recv(65536)
        connection.sendall(b"no chunk\r\n")
        assert bodies(first + received(connection)) == [b"/1"]


def test_a_client_that_still_sends_reads_its_last_response(running: Running) -> None:
    """No reset, although the connection is closed before the body is there."""
    with running.connection() as connection:
        connection.sendall(b"DELETE /1 HTTP/1.1\r\nContent-Length: 1000000\r\n" + CLOSE)
        while not running.app.asked:
            pass
        connection.sendall(b"a" * 1_000_000)
        assert bodies(received(connection)) == [b"/1"]


def test_a_shutdown_answers_the_request_under_way_and_none_that_is_queued_behind_it(running: Running) -> None:
    with running.connection() as connection:
        connection.sendall(b"GET /hold HTTP/1.1\r\n\r\n" + b"".join(GET % number for number in range(10_000)))
        assert running.app.held.wait(TIMEOUT)
        running.server.should_exit = True
        while running.accepts():
            pass
        running.app.let_go.set()
        assert bodies(received(connection)) == [b"/hold"]
    assert running.app.asked == ["/hold"]


class Clock:
    """An event loop's clock and timers, turned by hand; tasks run on the real loop."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: dict[float, Callable[[], None]] = {}

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None]) -> "Timer":
        when = self.now + delay
        self.timers[when] = callback
        return Timer(lambda: self.timers.pop(when, None))

    def create_task(self, coroutine: Any) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(coroutine)

    def turn(self, seconds: float) -> None:
        until = self.now + seconds
        while self.timers and min(self.timers) <= until:
            self.now = min(self.timers)
            self.timers.pop(self.now)()
        self.now = until


class Timer:
    def __init__(self, cancel: Callable[[], object]) -> None:
        self.cancel = cancel


class Socket(asyncio.Transport):
    """A transport that notes what is done to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.done: list[str] = []

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return "abort" in self.done or "close" in self.done

    def close(self) -> None:
        self.done.append("close")

    def abort(self) -> None:
        self.done.append("abort")

    def write_eof(self) -> None:
        self.done.append("eof")

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Connection:
    """A connection at a clock of its own. Its app waits for ``answer``."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.socket = Socket()
        self.answers = 0
        self._turn = asyncio.Event()
        self._answered = asyncio.Event()
        config = configure(Starlette, log_level="critical")
        config.load()
        config.loaded_app = self._app
        self.protocol = HttpProtocol(config, ServerState(), {}, self.clock)
        self.protocol.connection_made(self.socket)

    async def _app(self, _: Any, __: Any, send: Any) -> None:
        await self._turn.wait()
        self._turn.clear()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
        await send({"type": "http.response.body", "body": b"x"})
        self.answers += 1
        self._answered.set()

    async def answer(self) -> None:
        """Let one request have its response."""
        self._turn.set()
        await self._answered.wait()
        self._answered.clear()

    def is_cut(self) -> bool:
        return self.socket.done[-1:] == ["abort"]


async def in_state(state: str) -> Connection:
    """A connection in one of the states that it may stay in."""
    connection = Connection()
    # What came before the state does not count.
    connection.clock.turn(DEADLINE / 2)
    if state == "response under way":
        connection.protocol.data_received(GET % 1)
    elif state == "response not taken":
        connection.protocol.data_received(GET % 1)
        connection.protocol.pause_writing()
        connection._turn.set()
    elif state == "receiving a head":
        connection.protocol.data_received(b"GET / HTTP/1.1\r\nX: ")
    elif state == "receiving a body":
        connection.protocol.data_received(b"DELETE / HTTP/1.1\r\nContent-Length: 100\r\n\r\n")
    elif state == "receiving a body after the response":
        connection.protocol.data_received(b"DELETE / HTTP/1.1\r\nContent-Length: 100\r\n\r\n")
        await connection.answer()
    elif state == "kept alive":
        connection.protocol.data_received(GET % 1)
        await connection.answer()
    return connection


STATES = [
    "response under way",
    "response not taken",
    "receiving a head",
    "receiving a body",
    "receiving a body after the response",
    "kept alive",
]


@pytest.mark.parametrize("state", STATES)
async def test_a_connection_is_cut_when_it_stays_in_one_state(state: str) -> None:
    connection = await in_state(state)
    connection.clock.turn(DEADLINE - 0.01)
    assert not connection.is_cut()
    connection.clock.turn(0.02)
    assert connection.is_cut()
    connection.protocol.connection_lost(None)
    assert not connection.clock.timers


async def test_a_connection_that_never_says_anything_is_cut() -> None:
    connection = Connection()
    connection.clock.turn(DEADLINE - 0.01)
    assert not connection.is_cut()
    connection.clock.turn(0.02)
    assert connection.is_cut()


@pytest.mark.parametrize("state", ["receiving a head", "receiving a body", "receiving a body after the response"])
async def test_bytes_that_drip_win_no_time(state: str) -> None:
    connection = await in_state(state)
    for _ in range(int(DEADLINE)):
        assert not connection.is_cut()
        connection.protocol.data_received(b"a")
        connection.clock.turn(1)
    assert connection.is_cut()


async def test_empty_lines_win_no_time() -> None:
    connection = await in_state("kept alive")
    for _ in range(int(DEADLINE)):
        assert not connection.is_cut()
        connection.protocol.data_received(b"\r\n")
        connection.clock.turn(1)
    assert connection.is_cut()


async def test_a_connection_with_requests_lives_on() -> None:
    connection = Connection()
    for number in range(10):
        connection.clock.turn(DEADLINE - 1)
        connection.protocol.data_received(GET % number)
        connection.clock.turn(DEADLINE - 1)
        await connection.answer()
    assert connection.socket.done == []
    assert connection.answers == 10


async def test_an_idle_connection_is_closed_at_a_shutdown() -> None:
    connection = await in_state("kept alive")
    connection.protocol.shutdown()
    assert connection.socket.done == []
    connection.clock.turn(LAST_CALL)
    assert connection.socket.done == ["close"]


async def test_a_request_that_crosses_with_a_shutdown_is_answered() -> None:
    connection = await in_state("kept alive")
    connection.socket.written = b""
    connection.protocol.shutdown()
    connection.protocol.data_received(GET % 2)
    connection.clock.turn(LAST_CALL)
    assert connection.socket.done == []
    await connection.answer()
    assert connection.socket.written.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in connection.socket.written
    assert connection.socket.done == ["close"]


async def test_a_client_that_sends_for_ever_after_its_last_response_is_cut() -> None:
    connection = Connection()
    connection.protocol.data_received(b"DELETE / HTTP/1.1\r\nConnection: close\r\nContent-Length: 10000000\r\n\r\n")
    await connection.answer()
    assert connection.socket.done == ["eof"]
    assert connection.protocol.transport.is_closing()
    connection.clock.turn(LINGER - 0.01)
    connection.protocol.data_received(b"a" * 1000)
    assert connection.socket.done == ["eof"]
    connection.clock.turn(0.02)
    assert connection.is_cut()


async def test_a_client_that_has_said_all_is_not_waited_for() -> None:
    connection = Connection()
    connection.protocol.data_received(b"GET / HTTP/1.1\r\n" + CLOSE)
    await connection.answer()
    assert connection.socket.done == ["close"]


async def test_no_more_than_one_piece_is_queued() -> None:
    """However much comes at once, and although a socket may give more after it was asked to pause."""
    connection = Connection()
    requests = [GET % number for number in range(5000)]
    connection.protocol.data_received(b"".join(requests[:4000]))
    connection.protocol.data_received(b"".join(requests[4000:]))
    for _ in range(5000):
        assert len(connection.protocol.pipeline) <= PIECE / len(GET)
        await connection.answer()
    assert connection.socket.written.count(b"HTTP/1.1 200") == 5000
    assert connection.socket.done == []


async def test_nothing_is_read_while_a_request_waits_for_the_one_before_it() -> None:
    connection = Connection()
    connection.protocol.data_received(GET % 1 + GET % 2)
    assert connection.protocol.flow.read_paused
    for _ in range(2):
        await connection.answer()
    assert not connection.protocol.flow.read_paused


async def test_a_lost_connection_is_freed_without_the_garbage_collector() -> None:
    connection = await in_state("kept alive")
    connection.protocol.connection_lost(None)
    freed = weakref.ref(connection.protocol)
    gc.disable()
    try:
        del connection.protocol
        assert freed() is None
    finally:
        gc.enable()

"""The bounds of a connection, over real sockets against a running server."""

import asyncio
import contextlib
import gc
import resource
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.endpoints import protocol
from service.endpoints.protocol import MAX_FIELDS, MAX_HEAD, HttpProtocol
from service.server import Server, configure, listen
from tests.support.processes import TIMEOUT

MEGABYTE = 1024 * 1024
SOON = 0.3
"""Seconds: what CLIENT_TIMEOUT is where it passes, and the connection is cut."""
LATER = 2.0
"""Seconds: what it is where a client that is in time must not be cut, on a slow machine either."""
BAD = b'{"success":false,"message":"Bad Request"}'
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
CLOSE = b"Connection: close\r\n\r\n"

pytestmark = pytest.mark.usefixtures("logging_as_it_was")


class App:
    """Answers with the path or the body; ``/hold`` and ``/body/hold`` wait until they are let go."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.held = threading.Event()
        self.let_go = threading.Event()

    async def answer(self, request: Request) -> Response:
        path = request.url.path
        self.asked.append(path)
        if path.endswith("/hold"):
            self.held.set()
            await asyncio.to_thread(self.let_go.wait, TIMEOUT)
        if path == "/block":
            self.held.set()
            self.let_go.wait(TIMEOUT)
        if path == "/headers":
            return JSONResponse([name for name, _ in request.headers.items()])
        if path == "/large":
            return Response(b"x" * 16 * MEGABYTE)
        try:
            return Response(await request.body() if path.startswith("/body") else path)
        except ClientDisconnect:
            return Response("gone")


@dataclass
class Running:
    """A server in a thread of its own, on uvloop as in production."""

    server: Server
    address: tuple[str, int]
    app: App

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, TIMEOUT)

    def exchange(self, sent: bytes) -> bytes:
        """Send all, and give what comes until the server closes."""
        with self.connect() as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(sent)
            return received(connection)


@contextmanager
def serve() -> Iterator[Running]:
    app = App()
    with listen("127.0.0.1", 0)[0] as listener:
        methods = ["GET", "DELETE", "POST", "OPTIONS"]
        starlette = Starlette(routes=[Route("/{path:path}", app.answer, methods=methods)])
        server = Server(configure(starlette, log_level="critical"))
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


@pytest.fixture
def running() -> Iterator[Running]:
    with serve() as running:
        yield running


def received(connection: socket.socket) -> bytes:
    """All that comes until the end, or until a reset."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while more := connection.recv(1 << 16):
            data += more
    return data


def one_answer(connection: socket.socket) -> bytes:
    """The body of the next answer."""
    data = b""
    while b"\r\n\r\n" not in data or not bodies(data):
        more = connection.recv(1 << 16)
        assert more, data
        data += more
    (body,) = bodies(data)
    return body


def bodies(responses: bytes) -> list[bytes]:
    """The bodies of whole responses that stand one behind the other."""
    found = []
    while responses:
        head, _, responses = responses.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(responses) < length:
            break
        found.append(responses[:length])
        responses = responses[length:]
    return found


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: service\r\n\r\n".encode()


# --- Heads -----------------------------------------------------------------------------------------------------------

GET = b"GET / HTTP/1.1\r\nHost: a\r\n"


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(GET + b"X: " + b"a" * (MAX_HEAD - 100) + b"\r\n", id="a large header"),
        pytest.param(b"GET /" + b"a" * (MAX_HEAD - 200) + b" HTTP/1.1\r\nHost: a\r\n", id="a long URL"),
        pytest.param(GET + b"X: a\r\n" * (MAX_FIELDS - 2), id="many headers"),
        pytest.param(b"\r\n\r\n" + GET, id="empty lines before it"),
    ],
)
def test_a_head_within_the_bounds_is_served(running: Running, head: bytes) -> None:
    assert running.exchange(head + CLOSE).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(GET + b"X: " + b"a" * (MAX_HEAD + 1) + b"\r\n\r\n", id="a large header in one read"),
        pytest.param(GET + b"X: " + b"a" * 8 * MEGABYTE + b"\r\n\r\n", id="a header of megabytes"),
        pytest.param(GET + b"X: a\r\n" * MAX_FIELDS + b"\r\n", id="one header too many"),
        pytest.param(b"GET /" + b"a" * 8 * MEGABYTE + b" HTTP/1.1\r\nHost: a\r\n\r\n", id="a long URL"),
        pytest.param(b"\r\n" * 8 * MEGABYTE, id="empty lines"),
    ],
)
def test_a_head_beyond_the_bounds_is_refused(running: Running, head: bytes) -> None:
    answer = running.exchange(head)
    assert answer.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\ndate: ")
    assert b"\r\nconnection: close\r\n" in answer
    assert b"\r\ncontent-type: application/json\r\n" in answer
    assert bodies(answer) == [b'{"success":false,"message":"Request Header Fields Too Large"}']
    assert running.app.asked == []


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", id="HTTP/2.0"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="no host"),
        pytest.param(GET + b"Host: a\r\n\r\n", id="two hosts"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", id="two hosts that a proxy has joined"),
        pytest.param(b"GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n", id="two hosts in HTTP/1.0"),
        pytest.param(GET + b"Transfer-Encoding: xchunked\r\n\r\n", id="xchunked"),
        pytest.param(GET + b"Transfer-Encoding: gzip, chunked\r\n\r\n", id="two codings"),
        pytest.param(GET + b"Transfer-Encoding: chunked\r\n" + CHUNKED, id="chunked twice"),
        pytest.param(b"GET / HTTP/1.0\r\n" + CHUNKED, id="chunked in HTTP/1.0"),
    ],
)
def test_what_servers_read_differently_is_refused(running: Running, request_: bytes) -> None:
    """RFC 9112, sections 2.3, 3.2 and 6.1."""
    answer = running.exchange(request_)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert bodies(answer) == [BAD]
    assert running.app.asked == []


# --- Bodies and trailers ---------------------------------------------------------------------------------------------


def test_a_body_is_no_head(running: Running) -> None:
    """Megabytes of it, in chunks and with a length, and the connection serves on."""
    chunked = b"".join(b"1000\r\n" + b"a" * 4096 + b"\r\n" for _ in range(500)) + b"0\r\n\r\n"
    with running.connect() as connection:
        connection.sendall(b"POST /body/1 HTTP/1.1\r\nHost: a\r\n" + CHUNKED + chunked)
        assert one_answer(connection) == b"a" * 4096 * 500
        connection.sendall(b"DELETE /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n" + b"a" * 2_000_000)
        assert one_answer(connection) == b"/2"
        connection.sendall(get("/3"))
        assert one_answer(connection) == b"/3"


def test_trailers_are_dropped(running: Running) -> None:
    """Also by the next request on the connection."""
    with running.connect() as connection:
        for _ in range(2):
            connection.sendall(b"GET /headers HTTP/1.1\r\nHost: service\r\n" + CHUNKED)
            connection.sendall(b"1\r\na\r\n0\r\nX-Forwarded-For: 192.0.2.1\r\nX-Other: a\r\n\r\n")
            assert one_answer(connection) == b'["host","transfer-encoding"]'
        connection.sendall(b"POST /body/hold HTTP/1.1\r\nHost: a\r\n" + CHUNKED + b"1\r\na\r\n")
        assert running.app.held.wait(TIMEOUT)
        connection.sendall(b"0\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n")
        running.app.let_go.set()
        assert one_answer(connection) == b"a"


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(b"0\r\nX: " + b"a" * 8 * MEGABYTE, id="one large trailer"),
        pytest.param(b"1;x=" + b"a" * 8 * MEGABYTE, id="a chunk extension"),
        pytest.param(b"no chunk\r\n", id="no chunk"),
    ],
)
def test_a_body_that_goes_wrong_has_one_answer(running: Running, end: bytes) -> None:
    """The one that it has got, else an error."""
    with running.connect() as connection:
        connection.sendall(b"DELETE /1 HTTP/1.1\r\nHost: a\r\n" + CHUNKED + b"1\r\na\r\n")
        assert one_answer(connection) == b"/1"
        with contextlib.suppress(ConnectionError):
            connection.sendall(end)
        assert received(connection) == b""
    for request in (b"DELETE /1", b"POST /body"):
        answer = running.exchange(request + b" HTTP/1.1\r\nHost: a\r\n" + CHUNKED + b"1\r\na\r\n" + end)
        assert len(bodies(answer)) == 1
    assert answer.startswith(b"HTTP/1.1 400" if end == b"no chunk\r\n" else b"HTTP/1.1 431")


@pytest.mark.parametrize("length", [0, 5])
def test_an_upgrade_is_not_heeded_and_the_last_request(running: Running, length: int) -> None:
    """Java's client asks for one in each first request. The parser gives no body that comes with it, now or later."""
    head = b"DELETE /1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    answer = running.exchange(head + b"Content-Length: %d\r\n\r\n" % length + get("/2")[:length])
    assert b"\r\nconnection: close\r\n" in answer
    assert bodies(answer) == [b"/1"]


def test_a_request_with_an_expectation_is_the_last(running: Running) -> None:
    """Else a body that the client did not send would be looked for in its next request."""
    answer = running.exchange(b"DELETE /1 HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 100\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"\r\nconnection: close\r\n" in answer
    with running.connect() as connection:
        connection.sendall(b"POST /body HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"body")
        assert bodies(received(connection)) == [b"body"]


# --- One request at a time -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "behind",
    [
        pytest.param(get("/2") * 1000, id="requests"),
        pytest.param(b"\0\r\n\r\n", id="what is no request"),
        pytest.param(b"\r\n" * MEGABYTE, id="empty lines"),
    ],
)
@pytest.mark.parametrize("pause", [False, True], ids=["at once", "later"])
def test_what_is_sent_before_an_answer_is_not_heard(running: Running, behind: bytes, *, pause: bool) -> None:
    """The answer comes, whole and alone, and the connection closes."""
    with running.connect() as connection:
        connection.sendall(get("/hold") + (b"" if pause else behind))
        assert running.app.held.wait(TIMEOUT)
        if pause:
            connection.sendall(behind)
        running.app.let_go.set()
        answer = received(connection)
    assert bodies(answer) == [b"/hold"]
    assert running.app.asked == ["/hold"]


def test_nothing_is_heard_after_the_last_request(running: Running) -> None:
    assert bodies(running.exchange(b"GET /1 HTTP/1.0\r\n\r\n" + get("/2") + get("/3"))) == [b"/1"]
    assert running.app.asked == ["/1"]


@pytest.mark.parametrize("body", [b"", b"a"], ids=["", "in its body"])
def test_a_client_that_sends_no_more_is_answered_and_closed(running: Running, body: bytes) -> None:
    with running.connect() as connection, running.connect() as silent:
        silent.shutdown(socket.SHUT_WR)
        assert received(silent) == b""
        connection.sendall(b"DELETE /hold HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (10 * len(body)) + body)
        connection.shutdown(socket.SHUT_WR)
        assert running.app.held.wait(TIMEOUT)
        running.app.let_go.set()
        assert bodies(received(connection)) == [b"/hold"]


# --- Time ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def impatient(running: Running, monkeypatch: pytest.MonkeyPatch) -> Running:
    monkeypatch.setattr(protocol, "CLIENT_TIMEOUT", SOON)
    return running


@pytest.fixture
def patient(running: Running, monkeypatch: pytest.MonkeyPatch) -> Running:
    monkeypatch.setattr(protocol, "CLIENT_TIMEOUT", LATER)
    return running


@pytest.mark.parametrize(
    ("sent", "drop"),
    [
        pytest.param(b"", b"", id="nothing"),
        pytest.param(GET + b"X: ", b"", id="part of a head"),
        pytest.param(b"DELETE / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\na", b"", id="part of a body"),
        pytest.param(GET + b"X: ", b"a", id="a head that drips"),
        pytest.param(b"", b"\r\n", id="empty lines"),
        pytest.param(get("/1"), b"\r\n", id="empty lines after a request"),
    ],
)
def test_silence_is_cut_and_dripping_wins_no_time(impatient: Running, sent: bytes, drop: bytes) -> None:
    started = time.monotonic()  # at the latest when it waits for a first request
    with impatient.connect() as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(sent)
            while drop and time.monotonic() < started + TIMEOUT:
                connection.sendall(drop)
                time.sleep(SOON / 10)
        received(connection)
        assert SOON - 0.01 < time.monotonic() - started < TIMEOUT


def test_an_answer_may_take_its_time(patient: Running) -> None:
    """And the connection stays."""
    with patient.connect() as connection:
        connection.sendall(b"POST /body/hold HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\na")
        time.sleep(1.2 * LATER)
        patient.app.let_go.set()
        assert one_answer(connection) == b"a"
        time.sleep(1.2 * LATER)
        connection.sendall(get("/2"))
        assert one_answer(connection) == b"/2"


LENGTH = b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n"
IN_CHUNKS = b"POST /body HTTP/1.1\r\nHost: a\r\n" + CHUNKED


@pytest.mark.parametrize(
    ("before", "piece", "rest"),
    [
        pytest.param([LENGTH[:20]], LENGTH[20:], b"aa", id="the end of the head"),
        pytest.param([LENGTH], b"a", b"a", id="a part of the body"),
        pytest.param([IN_CHUNKS], b"2\r\n", b"aa\r\n0\r\n\r\n", id="the size of a chunk"),
        pytest.param([IN_CHUNKS, b"2\r\n"], b"aa\r\n", b"0\r\n\r\n", id="a chunk"),
    ],
)
def test_silence_in_a_body_counts_from_what_came_last(
    patient: Running, before: list[bytes], piece: bytes, rest: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with patient.connect() as connection:
        for one in before:
            connection.sendall(one)
            time.sleep(0.1)  # the server reads it by itself
        monkeypatch.setattr(protocol, "CLIENT_TIMEOUT", TIMEOUT)
        connection.sendall(piece)
        time.sleep(1.2 * LATER)
        connection.sendall(rest)
        assert one_answer(connection) == b"aa"


@pytest.mark.parametrize("close", [b"\r\n", CLOSE], ids=["kept alive", "last request"])
def test_a_client_that_does_not_take_its_answer_is_cut(patient: Running, close: bytes) -> None:
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(TIMEOUT)
        connection.connect(patient.address)
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\n" + close)
        deadline = time.monotonic() + TIMEOUT
        while patient.server.server_state.connections or not patient.app.asked:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.parametrize("late", [b"", b"a"], ids=["", "its body ended after the answer"])
def test_an_idle_connection_closes(patient: Running, late: bytes) -> None:
    patient.server.config.timeout_keep_alive = 3
    with patient.connect() as connection:
        started = time.monotonic()
        connection.sendall(b"DELETE /1 HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(late))
        assert one_answer(connection) == b"/1"
        connection.sendall(late)
        assert received(connection) == b""
        assert 2.9 < time.monotonic() - started < TIMEOUT


# --- The end, and how many there may be ------------------------------------------------------------------------------


def test_a_shutdown_answers_what_is_under_way_or_on_its_way(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "LAST_CALL", 3.0)
    with running.connect() as connection, running.connect() as idle, running.connect() as silent:
        for one in (idle, silent):
            one.sendall(get("/1"))
            assert one_answer(one) == b"/1"
        connection.sendall(get("/hold"))
        assert running.app.held.wait(TIMEOUT)
        running.server.should_exit = True
        with contextlib.suppress(ConnectionError):  # refused, or reset where it stood in the queue of the listener
            while True:
                running.connect().close()
                time.sleep(0.1)  # the server closes its listener only when nobody waits
        idle.sendall(get("/2"))
        assert bodies(received(idle)) == [b"/2"]
        assert received(silent) == b""
        running.app.let_go.set()
        answer = received(connection)
    assert b"\r\nconnection: close\r\n" in answer
    assert bodies(answer) == [b"/hold"]


def test_connections_leave_some_open_files_to_the_service(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr(protocol, "RESERVED_FILES", soft - 2)
    with running.connect() as first, running.connect() as second:
        for connection in (first, second):
            connection.sendall(get("/1"))
            assert one_answer(connection) == b"/1"
        with running.connect() as third:
            assert received(third) == b""
        first.sendall(get("/2"))
        assert one_answer(first) == b"/2"


def test_lost_connections_are_freed_without_garbage_collection(running: Running) -> None:
    """Both those that end in order and those that are reset."""
    gc.disable()
    try:
        for number in range(20):
            with running.connect() as connection:
                connection.sendall(get("/1"))
                assert one_answer(connection) == b"/1"
                if number % 2:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        deadline = time.monotonic() + TIMEOUT
        while sum(isinstance(one, HttpProtocol) for one in gc.get_objects()) > 1:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        gc.enable()


def test_who_waits_to_be_accepted_at_a_shutdown_is_answered(running: Running) -> None:
    """The event loop stands still while they come."""
    with contextlib.ExitStack() as stack:
        blocking = stack.enter_context(running.connect())
        blocking.sendall(get("/block"))
        assert running.app.held.wait(TIMEOUT)
        waiting = [stack.enter_context(running.connect()) for _ in range(100)]
        for connection in waiting:
            connection.sendall(get("/1"))
        running.server.should_exit = True
        time.sleep(0.2)  # until the server would look for it
        running.app.let_go.set()
        assert [bodies(received(connection)) for connection in waiting] == [[b"/1"]] * 100

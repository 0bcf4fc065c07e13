"""A response leaves as uvicorn would send it: whatever an app does, the same bytes, errors, state and end."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from service.cycle import REMEMBERED, SHORT, HeaderLines
from service.protocol import HttpProtocol
from service.server import configure
from tests.test_polite_transport import NotingSocket, connected

pytestmark = pytest.mark.usefixtures("logging_as_it_was")

Messages = Callable[[], list[Any]]
RECEIVE = "receive"


def start(*headers: Any, status: Any = 200) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(data: Any = b"x", *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


ONE = (b"content-length", b"1")
TEN = (b"content-length", b"10")

APPS: dict[str, Messages] = {
    "plain": lambda: [start(ONE, (b"x-a", b"1")), body()],
    "plain, the least that ASGI allows": lambda: [start(ONE), {"type": "http.response.body", "body": b"x"}],
    "no body": lambda: [start((b"content-length", b"0")), {"type": "http.response.body"}],
    "a bytearray": lambda: [start(ONE), body(bytearray(b"x"))],
    "chunked": lambda: [start(), body()],
    "chunked pieces": lambda: [start(), body(more=True), body(b"", more=True), body(b"abc", more=True), body(b"")],
    "chunked by the app": lambda: [start((b"transfer-encoding", b"chunked")), body()],
    "another coding": lambda: [start((b"transfer-encoding", b"gzip")), body()],
    "a length and chunked": lambda: [start(ONE, (b"transfer-encoding", b"chunked")), body()],
    "pieces with a length": lambda: [start(TEN), body(b"abcde", more=True), body(b"", more=True), body(b"abcde")],
    "all in a first piece": lambda: [start(TEN), body(b"0123456789", more=True), body(b"")],
    "the length once more": lambda: [start(TEN), body(b"01234", more=True), body(b"0123456789")],
    "too long": lambda: [start(ONE), body(b"xy")],
    "too short": lambda: [start(TEN), body()],
    "too short, then the rest": lambda: [start(TEN), "ignore", body(b"01234"), body(b"56789")],
    "204": lambda: [start(status=204), body(b"")],
    "204 with a length": lambda: [start((b"content-length", b"0"), status=204), body(b"")],
    "304": lambda: [start(status=304), body(b"")],
    "304 with a length": lambda: [start(TEN, status=304), body(b"")],
    "a status without a phrase": lambda: [start(ONE, status=299), body()],
    "a status that is none": lambda: [start(ONE, status=999), body()],
    "a status that is no number": lambda: [start(ONE, status=[]), body()],
    "the end of the connection": lambda: [start(ONE, (b"connection", b"close")), body()],
    "the end in capitals": lambda: [start(ONE, (b"Connection", b"x, Close")), body()],
    "a connection that stays": lambda: [start(ONE, (b"connection", b"keep-alive")), body()],
    "names in capitals": lambda: [start((b"Content-Length", b"1"), (b"X-A", b"1")), body()],
    "a name that is none": lambda: [start(ONE, (b"x a", b"1")), body()],
    "a value that is none": lambda: [start(ONE, (b"x-a", b"1\r\nx-b: 2")), body()],
    "a value that is none, ignored": lambda: ["ignore", start(ONE, (b"x-a", b"\0")), body()],
    "a header in text": lambda: [start(ONE, ("x-a", "1")), body()],
    "a header in three parts": lambda: [start(ONE, (b"x-a", b"1", b"2")), body()],
    "headers as lists": lambda: [start([b"content-length", b"1"], [b"x-a", b"1"]), body()],
    "headers as a tuple": lambda: [{**start(), "headers": (ONE, (b"x-a", b"1"))}, body()],
    "headers that come once": lambda: [{**start(), "headers": iter([ONE, (b"x-a", b"1")])}, body()],
    "headers that come once, and end the connection": lambda: [
        {**start(), "headers": iter([ONE, (b"connection", b"close")])},
        body(),
    ],
    "no headers": lambda: [{"type": "http.response.start", "status": 200}, body()],
    "two lengths": lambda: [start(ONE, TEN), body()],
    "two lengths, the second kept": lambda: [start(TEN, ONE), body()],
    "a length that is none": lambda: [start((b"content-length", b"one")), body()],
    "a length below 0": lambda: [start((b"content-length", b"-1")), body(b"")],
    "nothing": list,
    "no end": lambda: [start(ONE)],
    "an error before the head": lambda: [ValueError()],
    "an error after the head": lambda: [start(ONE), ValueError()],
    "an error after a chunked head": lambda: [start(), ValueError()],
    "an error in the body": lambda: [start(TEN), body(more=True), ValueError()],
    "an error after the end": lambda: [start(ONE), body(), ValueError()],
    "a body without a head": lambda: [body()],
    "two heads": lambda: [start(ONE), start(ONE)],
    "two heads, and a body": lambda: ["ignore", start(ONE), start(ONE), body()],
    "two bodies": lambda: [start(ONE), body(), body()],
    "an empty body behind the end": lambda: [start(ONE), body(), body(b"")],
    "a head behind the end": lambda: [start(ONE), body(), start(ONE)],
    "something else": lambda: [{"type": "http.response.push"}],
    "something else after the head": lambda: [start(ONE), {"type": "http.response.push", "body": b"x"}],
    "reads first": lambda: [RECEIVE, start(ONE), body()],
    "reads between": lambda: [start(ONE), RECEIVE, body()],
    "reads afterwards": lambda: [start(ONE), body(), RECEIVE],
}

REQUESTS = {
    "GET": b"GET /1 HTTP/1.1\r\nHost: service\r\n\r\n",
    "HEAD": b"HEAD /1 HTTP/1.1\r\nHost: service\r\n\r\n",
    "HTTP/1.0": b"GET /1 HTTP/1.0\r\n\r\n",
    "HTTP/1.0 that would go on": b"GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "the last one": b"GET /1 HTTP/1.1\r\nHost: service\r\nConnection: close\r\n\r\n",
    "a body": b"POST /1 HTTP/1.1\r\nHost: service\r\nContent-Length: 3\r\n\r\nabc",
    "100 Continue": b"POST /1 HTTP/1.1\r\nHost: service\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
}


class Access(logging.Handler):
    """Keeps what is logged."""

    def __init__(self, kept: list[str]) -> None:
        super().__init__()
        self._kept = kept

    def emit(self, record: logging.LogRecord) -> None:
        self._kept.append(record.getMessage())


class Conversation:
    """What an app hears and sees while it answers requests on one connection, and what its client gets."""

    def __init__(self, messages: Messages) -> None:
        self.scopes: list[dict[str, Any]] = []
        self.heard: list[str] = []
        self.states: list[dict[str, Any]] = []
        self.socket = NotingSocket()
        self.access: list[str] = []
        self._messages = messages

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(dict(scope))
        messages = self._messages()
        ignore = "ignore" in messages
        for message in messages:
            if isinstance(message, Exception):
                raise message
            if message == RECEIVE:
                self.heard.append(repr(await receive()))
            elif message != "ignore":
                try:
                    await send(message)
                except Exception as error:
                    self.heard.append(repr(error))
                    if not ignore:
                        raise

    async def hold(self, protocol_class: type[HttpToolsProtocol], request: bytes, *, access_log: bool) -> None:
        """Send a request twice, if the connection lasts."""
        config = configure(Starlette, log_level="critical")
        config.load()
        config.loaded_app = self.app
        state = ServerState()
        state.default_headers = [(b"date", b"today")]
        protocol = protocol_class(config, state, {"a": "b"}, asyncio.get_running_loop())
        if access_log:
            protocol.access_log = True
            protocol.access_logger = logging.Logger("access")  # noqa: LOG001 - of this test alone
            protocol.access_logger.addHandler(Access(self.access))
        protocol.connection_made(self.socket)
        for _ in range(2):
            if not self.socket.done:
                protocol.data_received(request)
                if protocol.tasks:
                    await asyncio.wait(protocol.tasks)
                if protocol.cycle is not None:
                    self.states.append(plain_values(vars(protocol.cycle)))
        self.ended = bool(self.socket.done)
        self.counted = state.total_requests
        protocol.connection_lost(None)


def plain_values(state: dict[str, Any]) -> dict[str, Any]:
    """A cycle's state, without the parts that it stands on."""
    found = {name: value for name, value in state.items() if isinstance(value, bool | int | bytearray | None)}
    found.pop("_length", None)
    return found | {"heard of": state["message_event"].is_set()}


async def both(messages: Messages, request: bytes, *, access_log: bool = False) -> tuple[Conversation, Conversation]:
    """The same conversation through uvicorn's protocol and through ours."""
    uvicorns, ours = Conversation(messages), Conversation(messages)
    await uvicorns.hold(HttpToolsProtocol, request, access_log=access_log)
    await ours.hold(HttpProtocol, request, access_log=access_log)
    return uvicorns, ours


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize("app", APPS)
async def test_a_response_is_as_uvicorn_would_have_sent_it(app: str, request_: str) -> None:
    uvicorns, ours = await both(APPS[app], REQUESTS[request_])
    assert b"".join(ours.socket.writes) == b"".join(uvicorns.socket.writes)
    assert ours.ended == uvicorns.ended
    assert ours.counted == uvicorns.counted
    assert ours.heard == uvicorns.heard
    assert ours.states == uvicorns.states
    assert ours.scopes == uvicorns.scopes


@pytest.mark.parametrize(
    "line",
    [
        b"DELETE /v1/auth/session HTTP/1.1",
        b"GET /a%20b%2Fc?d=%20&e HTTP/1.1",
        b"GET /%ff%C3%A4 HTTP/1.1",
        b"GET /? HTTP/1.1",
        b"GET //a//b/../c HTTP/1.1",
        b"GET /a;b=c#d HTTP/1.1",
        b"GET http://other.example/a?b HTTP/1.1",
        b"GET / HTTP/1.0",
        b"OPTIONS * HTTP/1.1",
        b"GET ?a HTTP/1.1",
        b"GET http://other.example HTTP/1.1",
        b"GET /\xc3\xa4 HTTP/1.1",
        b"GET / HTTP/2.0",
    ],
)
async def test_an_app_sees_the_request_that_uvicorn_would_show_it(line: bytes) -> None:
    request = line + b"\r\nHost: service\r\nX-A: b\r\nx-a: C\r\n\r\n"
    uvicorns, ours = await both(APPS["plain"], request)
    assert ours.scopes == uvicorns.scopes
    assert [data.split(b"\r\n")[0] for data in ours.socket.writes] == [
        data.split(b"\r\n")[0] for data in uvicorns.socket.writes if data.startswith(b"HTTP/")
    ]


async def test_what_uvicorns_access_log_would_say_is_said() -> None:
    uvicorns, ours = await both(APPS["plain"], REQUESTS["GET"], access_log=True)
    assert len(ours.access) == 2
    assert ours.access == uvicorns.access
    assert b"".join(ours.socket.writes) == b"".join(uvicorns.socket.writes)


async def test_nothing_is_written_to_a_client_who_does_not_read_until_he_does() -> None:
    protocol, noting = connected(Conversation(APPS["plain"]).app)
    protocol.pause_writing()
    protocol.data_received(REQUESTS["GET"])
    for _ in range(5):
        await asyncio.sleep(0)
    assert noting.writes == []
    protocol.resume_writing()
    await asyncio.wait(protocol.tasks)
    assert len(noting.writes) == 1
    assert noting.writes[0].endswith(b"\r\n\r\nx")
    protocol.connection_lost(None)


async def test_nothing_is_written_to_a_client_who_has_gone_between_head_and_body() -> None:
    gone = asyncio.Event()

    async def app(_: Any, __: Any, send: Any) -> None:
        await send(start(ONE))
        await gone.wait()
        await send(body())

    protocol, noting = connected(app)
    protocol.data_received(REQUESTS["GET"])
    await asyncio.sleep(0)
    cycle = protocol.cycle
    assert cycle.response_started
    protocol.connection_lost(ConnectionResetError())
    gone.set()
    await asyncio.wait(protocol.tasks)
    assert noting.writes == []
    assert not cycle.response_complete


def test_a_header_line_is_remembered() -> None:
    lines = HeaderLines()
    assert lines[b"x-a", b"1"] == b"x-a: 1\r\n"
    assert lines[b"x-a", b"1"] is lines[b"x-a", b"1"]


@pytest.mark.parametrize(("name", "value"), [(b"x-a", b"a" * (SHORT + 1)), (b"x-request-id", b"a")])
def test_a_long_value_or_an_id_is_not_remembered(name: bytes, value: bytes) -> None:
    lines = HeaderLines()
    for _ in range(2):
        assert lines[name, value] == name + b": " + value + b"\r\n"
    assert not lines


def test_no_more_lines_are_remembered_than_may_be() -> None:
    lines = HeaderLines()
    for number in range(10 * REMEMBERED):
        assert lines[b"x-a", b"%d" % number] == b"x-a: %d\r\n" % number
        assert len(lines) <= REMEMBERED

"""What goes to the socket of a connection: a response's head together with what follows it, and nothing too late."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from uvicorn.server import ServerState

from service.protocol import HttpProtocol
from service.server import configure
from tests.support.processes import TIMEOUT
from tests.test_protocol import Socket

pytestmark = pytest.mark.usefixtures("logging_as_it_was")

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]}
CHUNKED = {"type": "http.response.start", "status": 200, "headers": []}
BODY = {"type": "http.response.body", "body": b"x"}
MORE = {"type": "http.response.body", "body": b"HTTP/1.1 is no head here", "more_body": True}


class NotingSocket(Socket):
    """Notes each write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))


def connected(app: Any) -> tuple[HttpProtocol, NotingSocket]:
    """A connection to an app."""
    config = configure(Starlette, log_level="error")
    config.load()
    config.loaded_app = app
    protocol, noting = HttpProtocol(config, ServerState(), {}, asyncio.get_running_loop()), NotingSocket()
    protocol.connection_made(noting)
    return protocol, noting


async def written(
    request: bytes, *messages: dict[str, Any], breaks: bool = False, times: int = 1, receive_first: bool = False
) -> list[bytes]:
    """What is written when an app answers requests with these messages."""
    done = asyncio.Semaphore(0)

    async def app(_: Any, receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
        try:
            if receive_first:
                await receive()
            for message in messages:
                await send(message)
            if breaks:
                raise ConnectionError
        finally:
            done.release()

    protocol, noting = connected(app)
    for _ in range(times):
        protocol.data_received(request)
        await done.acquire()
        await asyncio.sleep(0)  # so that the request ends, too
    protocol.connection_lost(None)
    return noting.writes


async def test_head_and_body_go_together_for_each_request() -> None:
    first, second = await written(b"GET / HTTP/1.1\r\n\r\n", START, BODY, times=2)
    assert first == second
    assert first.startswith(b"HTTP/1.1 200 OK\r\n")
    assert first.endswith(b"\r\n\r\nx")


async def test_a_head_without_a_body_goes_alone() -> None:
    responses = await written(b"HEAD / HTTP/1.1\r\n\r\n", START, BODY, times=2)
    assert [response[-4:] for response in responses] == [b"\r\n\r\n"] * 2


async def test_pieces_of_a_body_go_as_they_come() -> None:
    head, more, end = await written(b"GET / HTTP/1.1\r\n\r\n", CHUNKED, MORE, MORE, BODY)
    assert head.endswith(b"\r\n\r\n18\r\nHTTP/1.1 is no head here\r\n")
    assert more == b"18\r\nHTTP/1.1 is no head here\r\n"
    assert end == b"1\r\nx\r\n0\r\n\r\n"


async def test_a_response_that_breaks_off_after_its_head_shows_that_it_began() -> None:
    (head,) = await written(b"GET / HTTP/1.1\r\n\r\n", START, breaks=True)
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")


async def test_whoever_waits_for_100_continue_gets_it_at_once() -> None:
    request = b"DELETE / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\ny"
    interim, response = await written(request, START, BODY, receive_first=True)
    assert interim == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert response.endswith(b"\r\n\r\nx")


@pytest.mark.parametrize("request_", [b"GET / HTTP/1.1\r\n\r\n", b"HEAD / HTTP/1.1\r\n\r\n"], ids=["GET", "HEAD"])
async def test_a_client_that_goes_while_his_first_of_several_requests_is_answered_is_nobodys_error(
    request_: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    done = asyncio.Event()

    async def app(_: Any, __: Any, send: Callable[[Any], Any]) -> None:
        await send(START)
        await send(BODY)
        done.set()

    protocol, noting = connected(app)
    protocol.pause_writing()
    protocol.data_received(request_ * 2)
    await asyncio.sleep(0)  # the first request begins, and waits for the client to take what was written before
    protocol.connection_lost(ConnectionResetError())
    async with asyncio.timeout(TIMEOUT):
        await done.wait()
    await asyncio.sleep(0)
    assert noting.writes == []
    assert not caplog.records

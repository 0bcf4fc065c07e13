"""Requests that arrive at the same moment begin some at a time, in order, and hold nobody up."""

import asyncio
from typing import Any

import pytest
from starlette.applications import Starlette
from uvicorn.server import ServerState

from service.protocol import HttpProtocol
from service.server import configure
from service.turns import AT_ONCE, Turns
from tests.test_protocol import GET, Socket

pytestmark = pytest.mark.usefixtures("logging_as_it_was")


class Service:
    """Connections of one process. Its app notes which requests began, and answers on ``answer``."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.answer = asyncio.Event()
        self._config = configure(Starlette, log_level="critical")
        self._config.load()
        self._config.loaded_app = self._app
        self._state = ServerState()

    async def _app(self, scope: Any, _: Any, send: Any) -> None:
        self.begun.append(scope["path"])
        await self.answer.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
        await send({"type": "http.response.body", "body": b"x"})

    def ask(self, number: int) -> tuple[HttpProtocol, Socket]:
        """Send a request on a connection of its own."""
        make: Any = self._config.http_protocol_class
        protocol, socket = make(self._config, self._state, {}), Socket()
        protocol.connection_made(socket)
        protocol.data_received(GET % number)
        return protocol, socket


def paths(first: int, end: int) -> list[str]:
    return [f"/{number}" for number in range(first, end)]


async def test_as_many_as_may_begin_at_once_do() -> None:
    service = Service()
    for number in range(AT_ONCE):
        service.ask(number)
    await asyncio.sleep(0)
    assert service.begun == paths(0, AT_ONCE)


async def test_the_rest_begins_some_in_each_turn_although_nothing_has_ended() -> None:
    service = Service()
    for number in range(3 * AT_ONCE):
        service.ask(number)
    for turn in (1, 2, 3):
        await asyncio.sleep(0)
        assert service.begun == paths(0, turn * AT_ONCE)


async def test_those_that_take_long_hold_nobody_up() -> None:
    service = Service()
    for number in range(2 * AT_ONCE):
        service.ask(number)
    for _ in range(2):
        await asyncio.sleep(0)
    service.ask(1_000)
    for _ in range(2):
        await asyncio.sleep(0)
    assert service.begun[-1] == "/1000"


async def test_everybody_is_answered() -> None:
    service = Service()
    clients = [service.ask(number) for number in range(2 * AT_ONCE)]
    service.answer.set()
    for protocol, _ in clients:
        protocol.shutdown()
    for _ in range(4):
        await asyncio.sleep(0)
    assert all(socket.done == ["close"] for _, socket in clients)
    assert all(socket.written.startswith(b"HTTP/1.1 200") for _, socket in clients)


async def test_a_request_whose_client_leaves_before_its_turn_is_served_all_the_same() -> None:
    service = Service()
    protocols = [service.ask(number)[0] for number in range(AT_ONCE + 1)]
    protocols[-1].connection_lost(None)
    for _ in range(2):
        await asyncio.sleep(0)
    assert service.begun[-1] == f"/{AT_ONCE}"
    service.answer.set()


async def test_each_server_has_turns_of_its_own() -> None:
    first, second = Service(), Service()
    for number in range(AT_ONCE + 1):
        first.ask(number)
    second.ask(1)
    await asyncio.sleep(0)
    assert second.begun == ["/1"]


async def test_one_that_cannot_begin_holds_nobody_up() -> None:
    loop, begun, last = asyncio.get_running_loop(), [], asyncio.Event()
    loop.set_exception_handler(lambda *_: None)
    turns = Turns()

    def fail() -> None:
        begun.append("fails")
        raise ValueError

    for begin in (fail, lambda: begun.append("begins"), last.set):
        turns.wait(loop, begin)
    await last.wait()
    assert begun == ["fails", "begins"]

"""How many there may be, and how they end with the service; ``test_sessions.py`` meets the rest through the app."""

import asyncio

import pytest
from starlette.responses import PlainTextResponse, Response

from service.endpoints import sign_outs
from service.endpoints.sign_outs import BusyError, SingleFlight
from tests.support.processes import TIMEOUT


class Slow:
    """Work that lasts until it may end, or its time is over."""

    def __init__(self) -> None:
        self.flights = SingleFlight()
        self.begun = self.under_way = self.most = 0
        self.begins = asyncio.Event()
        self.may_end = asyncio.Event()

    async def __call__(self, time_limit: asyncio.Timeout) -> Response:
        self.begun += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        self.begins.set()
        try:
            async with time_limit:
                await self.may_end.wait()
        except TimeoutError:
            return PlainTextResponse("cut short")
        finally:
            self.under_way -= 1
        return PlainTextResponse("done")

    def do(self, *owners: str) -> list[asyncio.Task[Response]]:
        return [asyncio.create_task(self.flights.do(owner, "key", self)) for owner in owners]


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Slow:
    monkeypatch.setattr(sign_outs, "MAX_FLIGHTS", 2)
    monkeypatch.setattr(sign_outs, "MAX_WAIT", TIMEOUT)
    return Slow()


async def said(tasks: list[asyncio.Task[Response]]) -> set[bytes]:
    return {bytes((await task).body) for task in tasks}


async def test_no_more_than_allowed_are_under_way(work: Slow) -> None:
    first = work.do("alice", "bob")
    await work.begins.wait()
    more = work.do("alice", "carol", "dave", "carol")
    asyncio.get_running_loop().call_later(0.01, work.may_end.set)
    assert await said(first + more) == {b"done"}
    assert (work.begun, work.most) == (4, 2)


async def test_stopping_gives_some_time_and_lets_nothing_begin(work: Slow) -> None:
    first = work.do("alice", "bob")
    await work.begins.wait()
    waiting = work.do("carol")
    await asyncio.sleep(0)
    work.flights.stop(TIMEOUT)
    joined = work.do("alice")
    work.may_end.set()
    assert await said(first + joined) == {b"done"}
    for late in waiting + work.do("dave"):
        with pytest.raises(BusyError):
            await late
    assert work.begun == 2


async def test_stopping_never_gives_more_time_than_there_was(work: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign_outs, "TIMEOUT", 0.05)
    first = work.do("alice")
    await work.begins.wait()
    work.flights.stop(TIMEOUT)
    async with asyncio.timeout(TIMEOUT / 2):
        assert await said(first) == {b"cut short"}


async def test_what_has_been_cut_short_can_be_closed(work: Slow) -> None:
    first = work.do("alice")
    await work.begins.wait()
    work.flights.stop(0.0)
    await work.flights.close()
    assert await said(first) == {b"cut short"}

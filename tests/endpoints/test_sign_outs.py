"""How many there may be, and how they end with the service; ``test_sessions.py`` meets the rest through the app."""

import asyncio

import pytest
from starlette.responses import PlainTextResponse, Response

from service.endpoints.sign_outs import BusyError, SingleFlight
from tests.support.processes import TIMEOUT


class Slow:
    """Work that lasts until it may end, or its time is over."""

    def __init__(self) -> None:
        self.begun = 0
        self.begins = asyncio.Event()
        self.may_end = asyncio.Event()

    async def __call__(self, time_limit: asyncio.Timeout) -> Response:
        self.begun += 1
        self.begins.set()
        try:
            async with time_limit:
                await self.may_end.wait()
        except TimeoutError:
            return PlainTextResponse("cut short")
        return PlainTextResponse("done")


@pytest.fixture
def flights() -> SingleFlight:
    return SingleFlight(max_flights=2)


@pytest.fixture
def work() -> Slow:
    return Slow()


def do(
    flights: SingleFlight, work: Slow, owner: str = "alice", *, max_wait: float = TIMEOUT, within: float = TIMEOUT
) -> asyncio.Task[bytes]:
    async def body() -> bytes:
        deadline = asyncio.get_running_loop().time() + within
        return bytes((await flights.do(owner, "key", work, max_wait=max_wait, deadline=deadline)).body)

    return asyncio.create_task(body())


async def test_no_more_flights_than_allowed_are_under_way(flights: SingleFlight, work: Slow) -> None:
    under_way = [do(flights, work, owner) for owner in ("alice", "bob")]
    await work.begins.wait()
    with pytest.raises(BusyError):
        await do(flights, work, "carol", max_wait=0.01)
    joined = do(flights, work, "alice")
    waiting = [do(flights, work, owner) for owner in ("carol", "dave", "carol")]
    assert work.begun == 2
    work.may_end.set()
    assert await asyncio.gather(*under_way, joined, *waiting) == [b"done"] * 6
    assert work.begun == 4


async def test_stopping_gives_some_time_and_lets_nothing_begin(work: Slow) -> None:
    flights = SingleFlight(max_flights=1)
    first, waiting = do(flights, work), do(flights, work, "bob")
    await work.begins.wait()
    flights.stop(TIMEOUT)
    joined = do(flights, work)
    work.may_end.set()
    assert [await first, await joined] == [b"done"] * 2
    for late in (waiting, do(flights, work, "carol")):
        with pytest.raises(BusyError):
            await late
    assert work.begun == 1


async def test_stopping_never_gives_more_time_than_the_deadline(flights: SingleFlight, work: Slow) -> None:
    caller = do(flights, work, within=0.05)
    await work.begins.wait()
    flights.stop(TIMEOUT)
    async with asyncio.timeout(TIMEOUT / 2):
        assert await caller == b"cut short"


async def test_what_has_been_cut_short_already_can_be_closed(flights: SingleFlight, work: Slow) -> None:
    caller = do(flights, work)
    await work.begins.wait()
    flights.stop(0.0)
    await flights.close()
    assert await caller == b"cut short"
    await flights.close()

import asyncio

import pytest

from service.endpoints.single_flight import BusyError, SingleFlight
from tests.support.processes import TIMEOUT


class Slow:
    """Work that lasts until it may end, or its time is over."""

    def __init__(self) -> None:
        self.begun = 0
        self.begins = asyncio.Event()
        self.may_end = asyncio.Event()

    async def __call__(self, time_limit: asyncio.Timeout) -> str:
        self.begun += 1
        self.begins.set()
        try:
            async with time_limit:
                await self.may_end.wait()
        except TimeoutError:
            return "cut short"
        return "done"


@pytest.fixture
def flights() -> SingleFlight[str]:
    return SingleFlight(max_flights=2)


@pytest.fixture
def work() -> Slow:
    return Slow()


def do(
    flights: SingleFlight[str], work: Slow, owner: str = "alice", key: str = "key", *, max_wait: float = TIMEOUT
) -> "asyncio.Task[str]":
    deadline = asyncio.get_running_loop().time() + TIMEOUT
    return asyncio.create_task(flights.do(owner, key, work, max_wait=max_wait, deadline=deadline))


async def test_who_asks_for_the_same_joins_the_flight(flights: SingleFlight[str], work: Slow) -> None:
    callers = [do(flights, work) for _ in range(10)]
    await work.begins.wait()
    work.may_end.set()
    assert await asyncio.gather(*callers) == ["done"] * 10
    assert work.begun == 1
    await do(flights, work)
    assert work.begun == 2


async def test_other_work_of_the_same_owner_waits_but_not_for_ever(flights: SingleFlight[str], work: Slow) -> None:
    first = do(flights, work)
    await work.begins.wait()
    with pytest.raises(BusyError):
        await do(flights, work, key="other", max_wait=0.01)
    other = do(flights, work, key="other")
    work.may_end.set()
    assert [await first, await other] == ["done"] * 2
    assert work.begun == 2


async def test_no_more_flights_than_allowed_are_under_way(flights: SingleFlight[str], work: Slow) -> None:
    under_way = [do(flights, work, owner) for owner in ("alice", "bob")]
    await work.begins.wait()
    with pytest.raises(BusyError):
        await do(flights, work, "carol", max_wait=0.01)
    joined = do(flights, work, "alice")
    waiting = [do(flights, work, owner) for owner in ("carol", "dave", "carol")]
    assert work.begun == 2
    work.may_end.set()
    assert await asyncio.gather(*under_way, joined, *waiting) == ["done"] * 6
    assert work.begun == 4


async def test_it_goes_on_when_its_caller_has_gone(flights: SingleFlight[str], work: Slow) -> None:
    gone = do(flights, work)
    await work.begins.wait()
    gone.cancel()
    await asyncio.wait([gone])
    assert gone.cancelled()
    another = do(flights, work)
    work.may_end.set()
    assert await another == "done"
    assert work.begun == 1


async def test_after_the_deadline_it_is_cut_short(flights: SingleFlight[str], work: Slow) -> None:
    deadline = asyncio.get_running_loop().time() + 0.01
    assert await flights.do("alice", "key", work, max_wait=TIMEOUT, deadline=deadline) == "cut short"


async def test_closing_cuts_short_and_waits(flights: SingleFlight[str], work: Slow) -> None:
    caller = do(flights, work)
    await work.begins.wait()
    await flights.close()
    assert await caller == "cut short"


async def test_stopping_gives_some_time_and_lets_nothing_begin(work: Slow) -> None:
    flights = SingleFlight[str](max_flights=1)
    first, waiting = do(flights, work), do(flights, work, "bob")
    await work.begins.wait()
    flights.stop(TIMEOUT)
    joined = do(flights, work)
    work.may_end.set()
    assert [await first, await joined] == ["done"] * 2
    for late in (waiting, do(flights, work, "carol")):
        with pytest.raises(BusyError):
            await late
    assert work.begun == 1


async def test_stopping_never_gives_more_time_than_the_deadline(flights: SingleFlight[str], work: Slow) -> None:
    deadline = asyncio.get_running_loop().time() + 0.05
    caller = asyncio.create_task(flights.do("alice", "key", work, max_wait=TIMEOUT, deadline=deadline))
    await work.begins.wait()
    flights.stop(TIMEOUT)
    async with asyncio.timeout(TIMEOUT / 2):
        assert await caller == "cut short"


async def test_what_has_been_cut_short_already_can_be_closed(flights: SingleFlight[str], work: Slow) -> None:
    caller = do(flights, work)
    await work.begins.wait()
    flights.stop(0.0)
    await flights.close()
    assert await caller == "cut short"
    await flights.close()

import asyncio

import pytest

from service.endpoints.single_flight import BusyError, SingleFlight
from tests.support.processes import TIMEOUT


class Slow:
    """Work that lasts until it is told to end."""

    def __init__(self) -> None:
        self.begun = 0
        self.end = asyncio.Event()
        self.within: list[float] = []

    def begin(self) -> "Slow":
        self.begun += 1
        return self

    async def run(self) -> str:
        await self.end.wait()
        return "done"

    def cut_short(self, within: float) -> None:
        self.within.append(within)
        if not within:
            self.end.set()


async def begin(under_way: SingleFlight[str], work: Slow, owner: str, key: str = "key") -> "asyncio.Task[str]":
    """A caller that waits for the work, which has begun."""
    task = asyncio.create_task(under_way.do(owner, key, work.begin, patience=TIMEOUT))
    await asyncio.sleep(0)
    return task


async def test_who_asks_for_the_same_waits_for_the_same() -> None:
    under_way, work = SingleFlight[str](), Slow()
    callers = [await begin(under_way, work, "alice") for _ in range(10)]
    work.end.set()
    assert [await caller for caller in callers] == ["done"] * 10
    assert work.begun == 1


async def test_after_its_end_it_is_done_anew() -> None:
    under_way, work = SingleFlight[str](), Slow()
    work.end.set()
    for _ in range(2):
        await under_way.do("alice", "key", work.begin, patience=TIMEOUT)
    assert work.begun == 2


async def test_other_work_of_the_same_owner_has_to_wait() -> None:
    under_way, work = SingleFlight[str](), Slow()
    caller = await begin(under_way, work, "alice")
    with pytest.raises(BusyError):
        await under_way.do("alice", "other", work.begin, patience=0.01)
    other = await begin(under_way, work, "alice", "other")
    assert work.begun == 1
    work.end.set()
    assert [await caller, await other] == ["done"] * 2
    assert work.begun == 2


async def test_there_is_an_end_to_how_much_is_under_way() -> None:
    under_way, work = SingleFlight[str](most=2), Slow()
    callers = [await begin(under_way, work, owner) for owner in ("alice", "bob")]
    with pytest.raises(BusyError):
        await under_way.do("carol", "key", work.begin, patience=0.01)
    same = await begin(under_way, work, "alice")
    waiting = [await begin(under_way, work, owner) for owner in ("carol", "dave", "carol")]
    assert work.begun == 2
    work.end.set()
    assert [await caller for caller in [*callers, same, *waiting]] == ["done"] * 6
    assert work.begun == 4


async def test_it_goes_on_when_its_caller_has_gone() -> None:
    under_way, work = SingleFlight[str](), Slow()
    gone = await begin(under_way, work, "alice")
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    another = await begin(under_way, work, "alice")
    work.end.set()
    assert await another == "done"
    assert work.begun == 1


async def test_closing_cuts_short_and_waits() -> None:
    under_way, work = SingleFlight[str](), Slow()
    caller = await begin(under_way, work, "alice")
    await under_way.close()
    assert await caller == "done"


async def test_before_the_end_what_is_under_way_is_given_some_time_and_nothing_more_begins() -> None:
    under_way, work = SingleFlight[str](most=1), Slow()
    caller = await begin(under_way, work, "alice")
    waiting = await begin(under_way, work, "bob")
    under_way.stop(2.0)
    same = await begin(under_way, work, "alice")
    assert work.within == [2.0]
    work.end.set()
    assert [await caller, await same] == ["done"] * 2
    for late in (waiting, await begin(under_way, work, "carol")):
        with pytest.raises(BusyError):
            await late
    assert work.begun == 1


async def test_closing_with_nothing_under_way_is_nothing() -> None:
    await SingleFlight[str]().close()

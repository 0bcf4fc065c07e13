import time

import pytest

from service.revocations.revocation_list import MOST_SECONDS, ExpiringDict
from tests.revocations.conftest import Clock


def test_what_has_ended_leaves_memory(clock: Clock) -> None:
    entries = ExpiringDict(1000, clock=clock, wall_clock=clock)
    for number in range(1000):
        entries.put(str(number), 0.0, 1)
    clock.now += 10
    for _ in range(20):
        entries.put("new", 0.0, 1)
    assert entries.keys() == ["new"]


def test_when_it_is_full_the_entry_that_ends_soonest_goes(clock: Clock) -> None:
    dropped: list[None] = []
    entries = ExpiringDict(3, clock=clock, wall_clock=clock, on_dropped=lambda: dropped.append(None))
    for key, seconds in [("a", 30), ("b", 10), ("c", 20)]:
        entries.put(key, 5.0, seconds)
    entries.put("b", 7.0, 40)
    assert dropped == []
    entries.put("d", 5.0, 50)
    assert len(dropped) == 1
    assert sorted(entries.keys()) == ["a", "b", "d"]
    assert entries.get("b") == (5.0, 40)


@pytest.mark.parametrize("moved", [False, True])
def test_no_call_takes_long_however_many_end_at_once(clock: Clock, moved: bool) -> None:
    size = 100_000
    entries = ExpiringDict(size, clock=clock, wall_clock=clock)
    for seconds in (1, 75) if moved else (1,):
        for number in range(size):
            entries.put(str(number), 0.0, seconds)
    times = []
    for number in range(2000):
        clock.now += 0.001
        began = time.thread_time()
        entries.put(f"new {number}", 0.0, 75)
        times.append(time.thread_time() - began)
    assert sorted(times)[-3] < 0.005  # the garbage collector comes by too
    assert len(entries.keys()) <= 1.01 * size


def test_an_ended_entry_that_is_still_here_leaves_nothing_to_the_new_one(clock: Clock) -> None:
    entries = ExpiringDict(1000, clock=clock, wall_clock=clock)
    for number in range(150):
        entries.put(str(number), 1.0, 1 + number / 1000)
    clock.now = 1010.0
    entries.put("149", 2.0, 40)
    assert entries.get("149") == (2.0, 40)


@pytest.mark.parametrize("back", [40, 7200])
def test_a_wall_clock_that_is_set_back_ends_nothing_early(clock: Clock, back: float) -> None:
    """The token that the entry refuses is valid for longer by as much."""
    wall = Clock()
    entries = ExpiringDict(1000, clock=clock, wall_clock=wall)
    entries.put("ours", 1.0, 75)
    wall.now -= back
    for passed, lasts in ((74, True), (75 + back, False)):
        for each, began in ((clock, 1000), (wall, 1000 - back)):
            each.now = began + passed
        entries.put("another", 1.0, 1)
        assert (entries.get("ours") is not None) is lasts


def test_a_wall_clock_that_stands_still_keeps_nothing_for_more_than_a_day(clock: Clock) -> None:
    entries = ExpiringDict(1000, clock=clock, wall_clock=lambda: 0.0)
    entries.put("ours", 1.0, 75)
    clock.now += 75 + MOST_SECONDS - 1
    assert entries.get("ours") == (1.0, 1)
    clock.now += 1
    entries.put("another", 1.0, 1)
    assert (entries.get("ours"), entries.keys()) == (None, ["another"])


def test_a_wall_clock_that_is_set_forward_ends_nothing_early(clock: Clock) -> None:
    wall = Clock()
    entries = ExpiringDict(1000, clock=clock, wall_clock=wall)
    entries.put("ours", 1.0, 75)
    wall.now += 7200
    clock.now += 74
    assert entries.get("ours") == (1.0, 1)

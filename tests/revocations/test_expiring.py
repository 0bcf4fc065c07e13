from service.revocations.expiring import FORGOTTEN_AT_ONCE, Expiring
from tests.revocations.conftest import Clock


def test_an_entry_is_there_until_its_end_and_not_at_it(clock: Clock) -> None:
    entries: Expiring[str] = Expiring(10, clock=clock)
    entries.put("a", "A", clock.now + 5)
    clock.now += 4.999
    assert entries.get("a") == ("A", 1005.0)
    clock.now = 1005.0
    assert entries.get("a") is None


def test_entries_leave_memory_when_their_time_is_over(clock: Clock) -> None:
    entries: Expiring[None] = Expiring(1000, clock=clock)
    for number in range(1000):
        entries.put(str(number), None, clock.now + 1 + number / 1000)
    clock.now += 10
    for _ in range(1000 // FORGOTTEN_AT_ONCE):
        assert entries.get("another") is None
    assert len(entries) == 0
    assert not entries._ending or len(entries._ending) == 1
    assert len(entries._seconds) <= 1


def test_an_entry_in_place_of_one_that_is_over_stays_until_its_own_end(clock: Clock) -> None:
    """The first one is still in memory: all that end within a second leave it together."""
    entries: Expiring[str] = Expiring(10, clock=clock)
    entries.put("a", "first", clock.now + 6.5)
    clock.now += 6.7
    assert entries.add("a", "second", clock.now + 75) is None
    clock.now += 0.3
    assert entries.get("a") == ("second", 1081.7)
    entries.remove("a")
    assert len(entries) == 0


def test_one_call_lets_go_of_a_few_only(clock: Clock) -> None:
    entries: Expiring[None] = Expiring(1000, clock=clock)
    for number in range(1000):
        entries.put(str(number), None, clock.now + 1)
    clock.now += 10
    entries.put("new", None, clock.now + 1)
    assert len(entries) == 1000 - FORGOTTEN_AT_ONCE + 1


def test_when_it_is_full_the_entry_that_ends_soonest_goes(clock: Clock) -> None:
    dropped: list[None] = []
    entries: Expiring[str] = Expiring(3, clock=clock, on_dropped=lambda: dropped.append(None))
    for key, seconds in [("a", 30), ("b", 10), ("c", 20)]:
        entries.put(key, key, clock.now + seconds)
    entries.put("b", "later now", clock.now + 40)
    assert not dropped
    entries.put("d", "d", clock.now + 50)
    assert len(dropped) == 1
    assert sorted(entries.keys()) == ["a", "b", "d"]
    assert entries.get("b") == ("later now", 1040.0)


def test_what_is_over_makes_room_before_anything_is_dropped(clock: Clock) -> None:
    dropped: list[None] = []
    entries: Expiring[None] = Expiring(2, clock=clock, on_dropped=lambda: dropped.append(None))
    entries.put("a", None, clock.now + 1)
    entries.put("b", None, clock.now + 50)
    clock.now += 1
    entries.put("c", None, clock.now + 50)
    assert not dropped
    assert entries.keys() == ["b", "c"]


def test_an_entry_that_makes_room_when_its_time_is_over_is_not_told_as_dropped(clock: Clock) -> None:
    dropped: list[None] = []
    entries: Expiring[None] = Expiring(1, clock=clock, on_dropped=lambda: dropped.append(None))
    entries.put("a", None, clock.now + 0.25)
    clock.now += 0.5  # its second is not over
    entries.put("b", None, clock.now + 1)
    assert entries.keys() == ["b"]
    assert not dropped
    entries.put("c", None, clock.now + 1)
    assert entries.keys() == ["c"]
    assert len(dropped) == 1


def test_adding_changes_no_entry_that_lasts_and_gives_it(clock: Clock) -> None:
    entries: Expiring[str] = Expiring(10, clock=clock)
    assert entries.add("a", "first", clock.now + 0.25) is None
    assert entries.add("a", "second", clock.now + 5) == ("first", 1000.25)
    assert entries.get("a") == ("first", 1000.25)
    clock.now += 0.25  # over, though its second is not
    assert entries.add("a", "third", clock.now + 5) is None
    assert entries.get("a") == ("third", 1005.25)
    assert len(entries) == 1


def test_an_entry_that_is_extended_for_ever_takes_no_more_memory(clock: Clock) -> None:
    entries: Expiring[None] = Expiring(10, clock=clock)
    for _ in range(1000):
        clock.now += 1
        entries.put("a", None, clock.now + 75)
    assert len(entries) == 1
    assert len(entries._seconds) == len(entries._ending) <= 2


def test_some_keys_can_be_asked_for_and_removed(clock: Clock) -> None:
    entries: Expiring[None] = Expiring(10, clock=clock)
    for key in "abc":
        entries.put(key, None, clock.now + 1)
    assert entries.keys(2) == ["a", "b"]
    entries.remove("a")
    entries.remove("never there")
    assert entries.keys() == ["b", "c"]
    entries.clear()
    assert len(entries) == 0

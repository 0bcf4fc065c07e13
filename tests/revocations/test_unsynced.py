"""What Redis may not know."""

from collections.abc import Sequence

import pytest

from service.revocations.memory_store import MemoryStore
from service.revocations.redis_commands import Entry
from service.revocations.store import RevocationsUnavailableError
from service.revocations.unsynced import AT_ONCE, Owed
from tests.revocations.conftest import Clock
from tests.revocations.opened import AT


class Redis:
    """Takes what it is brought, except for the first so many times."""

    def __init__(self, failures: int = 0) -> None:
        self.entries: list[Entry] = []
        self._failures = failures

    async def put(self, entries: Sequence[Entry]) -> None:
        if self._failures > 0:
            self._failures -= 1
            raise RevocationsUnavailableError("lost")
        self.entries += entries


async def test_everything_is_brought_a_few_at_a_time(clock: Clock) -> None:
    own, redis = MemoryStore(clock=clock), Redis()
    owed = Owed(own, most=2000, clock=clock)
    session_ids = [f"sess_{number}" for number in range(2 * AT_ONCE + 1)]
    await own.add(session_ids, at=AT, seconds=75)
    await owed.add_all()
    await owed.bring(redis.put)
    assert redis.entries == [Entry(session_id, AT, 75.0) for session_id in session_ids]
    assert len(owed) == 0


async def test_what_could_not_be_brought_is_brought_the_next_time(clock: Clock) -> None:
    own, redis = MemoryStore(clock=clock), Redis(failures=1)
    owed = Owed(own, most=10, clock=clock)
    await own.add(["sess_1"], at=AT, seconds=75)
    owed.add(["sess_1"], seconds=75)
    with pytest.raises(RevocationsUnavailableError):
        await owed.bring(redis.put)
    clock.now += 10
    await owed.bring(redis.put)
    assert redis.entries == [Entry("sess_1", AT, 65.0)]


async def test_what_ended_while_it_waited_is_not_brought(clock: Clock) -> None:
    own, redis = MemoryStore(clock=clock), Redis()
    owed = Owed(own, most=10, clock=clock)
    await own.add(["sess_1", "sess_2"], at=AT, seconds=10)
    owed.add(["sess_1", "sess_2"], seconds=10)
    await own.add(["sess_2"], at=AT, seconds=75)
    owed.add(["sess_2"], seconds=75)
    clock.now += 10
    await owed.bring(redis.put)
    assert redis.entries == [Entry("sess_2", AT, 65.0)]


async def test_what_was_forgotten_by_then_is_not_brought(clock: Clock) -> None:
    own, redis = MemoryStore(most=1, clock=clock), Redis()
    owed = Owed(own, most=10, clock=clock)
    await own.add(["sess_1", "sess_2"], at=AT, seconds=75)
    owed.add(["sess_1", "sess_2"], seconds=75)
    await owed.bring(redis.put)
    assert [entry.session_id for entry in redis.entries] == ["sess_2"]


async def test_what_has_ended_is_not_owed(clock: Clock) -> None:
    own = MemoryStore(clock=clock)
    await own.add(["sess_1"], at=AT, seconds=10)
    clock.now += 10
    own._signed_out._seconds.clear()  # as if nobody had let go of it yet
    owed = Owed(own, most=10, clock=clock)
    await owed.add_all()
    assert len(owed) == 0

import pytest

from service.revocations.revocation_list import MemoryStore
from tests.revocations.conftest import Clock


async def test_when_it_is_full_it_counts_each_and_says_so_once(caplog: pytest.LogCaptureFixture, clock: Clock) -> None:
    dropped: list[None] = []
    store = MemoryStore(max_sessions=2, clock=clock, wall_clock=clock, on_dropped=lambda: dropped.append(None))
    for number in range(5):
        await store.add([f"sess_{number}"], at=1.0, seconds=75 + number)
    assert len(store.session_ids()) == 2
    assert len(dropped) == 3
    assert [record.getMessage()[:55] for record in caplog.records] == [
        "the revocation list of this process is full (2 sessions"
    ]
    assert await store.find("sess_0") is None
    assert await store.find("sess_4") == 1.0


async def test_claims_are_bounded_too(clock: Clock) -> None:
    store = MemoryStore(max_sessions=2, clock=clock, wall_clock=clock)
    for number in range(5):
        assert await store.claim(f"sess_{number}", seconds=60 + number)
    assert not store.is_claimed("sess_0")
    assert store.is_claimed("sess_4")

"""How long a session is kept, and what is kept in memory."""

import math
from collections.abc import Sequence

import pytest

from service.revocations.revocation_list import (
    ExpiringDict,
    MemoryStore,
    RevocationList,
    RevocationsUnavailableError,
)
from service.telemetry.metrics import Metrics
from tests.revocations.conftest import Clock

NOW = 1_790_000_000.5


class Asked(MemoryStore):
    """A store that remembers what it was told, or cannot be used."""

    def __init__(self, problem: str | None = None) -> None:
        super().__init__()
        self.problem = problem
        self.added: list[tuple[float, float]] = []

    async def add(self, session_ids: Sequence[str], *, at: float, seconds: float) -> None:
        if self.problem is not None:
            raise RevocationsUnavailableError(self.problem)
        await super().add(session_ids, at=at, seconds=seconds)
        self.added.append((at, seconds))


@pytest.fixture
def store() -> Asked:
    return Asked()


def counted(metrics: Metrics, result: str) -> float | None:
    return metrics.registry.get_sample_value("clerk_logout_revocations_total", {"result": result})


# --- The list --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lifetime", "seconds"), [(-5, 75), (75.001, 76), (24 * 3600, 86400), (math.inf, 86400)])
async def test_a_session_is_kept_until_no_token_can_pass(store: Asked, lifetime: float, seconds: int) -> None:
    assert await RevocationList(store).revoke(["a"], at=NOW, token_lifetime=lifetime)
    assert store.added == [(NOW, seconds)]


async def test_without_a_lifetime_the_longest_seen_counts(store: Asked) -> None:
    """A webhook brings no token, and Clerk can be set to tokens that live longer than a minute."""
    revocations = RevocationList(store)
    for lifetime in (None, 610, None, 70, None):
        await revocations.revoke(["a"], token_lifetime=lifetime)
    await RevocationList(store, clock_skew=60).revoke(["a"])  # where clocks may differ more
    assert [seconds for _, seconds in store.added] == [75, 610, 610, 75, 610, 180]


@pytest.mark.parametrize(("at", "kept"), [(None, NOW), (NOW - 30, NOW - 30), (NOW + 30, NOW)])
async def test_nobody_is_signed_out_in_the_future(store: Asked, at: float | None, kept: float) -> None:
    await RevocationList(store, clock=lambda: NOW).revoke(["a"], at=at)
    assert store.added == [(kept, 75)]


@pytest.mark.parametrize(("problem", "counts"), [(None, [3, 0]), ("it is down", [0, 3])])
async def test_sign_outs_are_counted_and_raise_nothing(problem: str | None, counts: list[float]) -> None:
    metrics = Metrics()
    revocations = RevocationList(Asked(problem), metrics)
    outcome = await revocations.revoke(["a", "b", "c"])
    assert outcome == (problem is None)
    assert [counted(metrics, result) for result in ("ok", "failed")] == counts


# --- In memory -------------------------------------------------------------------------------------------------------


async def test_in_a_full_list_what_ends_soonest_goes_and_is_counted(
    caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    metrics = Metrics()
    store = MemoryStore(metrics, max_sessions=3, clock=clock)
    assert counted(metrics, "dropped") == 0
    for session_id, seconds in [("a", 30), ("b", 10), ("c", 20), ("b", 40), ("d", 50), ("e", 60)]:
        await store.add([session_id], at=1.0, seconds=seconds)
    assert [await store.find(session_id) for session_id in "abcde"] == [None, 1.0, None, 1.0, 1.0]
    assert counted(metrics, "dropped") == 2
    (said,) = caplog.messages
    assert said.startswith("the revocation list of this process is full (3 sessions)")


async def test_what_has_ended_is_no_reason_to_forget_what_lasts(clock: Clock) -> None:
    """A token that lives for two hours is refused for as long, however many have logged out meanwhile."""
    metrics = Metrics()
    store = MemoryStore(metrics, max_sessions=150, clock=clock)
    await store.add(["long"], at=1.0, seconds=7200)
    for start in range(0, 1000, 100):
        await store.add([f"sess_{start + number}" for number in range(100)], at=2.0, seconds=75)
        clock.now += 75
    assert await store.find("long") == 1.0
    assert counted(metrics, "dropped") == 0


def test_what_has_ended_leaves_memory(clock: Clock) -> None:
    entries = ExpiringDict(1000, clock=clock)
    for key in ("a", "b"):
        entries.put(key, 0.0, 75)
        clock.now += 75
    assert entries.keys() == ["b"]

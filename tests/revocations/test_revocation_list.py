import math
from collections.abc import Sequence

import pytest
from prometheus_client import generate_latest

from service.revocations.revocation_list import MemoryStore, RevocationList, RevocationsUnavailableError
from service.telemetry.metrics import Metrics

NOW = 1_790_000_000.5


class Asked(MemoryStore):
    """A store that remembers what it was told, or cannot be used."""

    def __init__(self, problem: str | None = None) -> None:
        super().__init__()
        self.problem = problem
        self.added: list[tuple[Sequence[str], float, float]] = []

    async def add(self, session_ids: Sequence[str], *, at: float, seconds: float) -> None:
        if self.problem is not None:
            raise RevocationsUnavailableError(self.problem)
        self.added.append((session_ids, at, seconds))


def counted(metrics: Metrics, result: str) -> float:
    return metrics.registry.get_sample_value("clerk_logout_revocations_total", {"result": result}) or 0.0


@pytest.mark.parametrize(
    ("lifetime", "seconds"),
    [(-5, 75), (75.0, 75), (75.001, 76), (24 * 3600, 86400), (math.inf, 86400)],
)
async def test_a_session_is_kept_until_no_token_can_pass_within_bounds(lifetime: float, seconds: int) -> None:
    store = Asked()
    assert await RevocationList(store, clock=lambda: NOW).revoke(["a"], token_lifetime=lifetime)
    assert store.added == [(["a"], NOW, seconds)]


async def test_where_no_lifetime_is_known_the_longest_that_was_told_of_counts() -> None:
    """A webhook brings no token, and Clerk can be set to tokens that live longer than a minute."""
    store = Asked()
    revocations = RevocationList(store)
    for lifetime in (None, 610, None, 70, None):
        await revocations.revoke(["a"], token_lifetime=lifetime)
    assert [seconds for _, _, seconds in store.added] == [75, 610, 610, 75, 610]


async def test_where_clocks_may_differ_by_more_it_is_kept_for_longer() -> None:
    store = Asked()
    await RevocationList(store, clock_skew=60).revoke(["a"])
    assert [seconds for _, _, seconds in store.added] == [180]


@pytest.mark.parametrize(("at", "kept"), [(None, NOW), (NOW - 30, NOW - 30), (NOW + 30, NOW)])
async def test_nobody_is_signed_out_in_the_future(at: float | None, kept: float) -> None:
    store = Asked()
    await RevocationList(store, clock=lambda: NOW).revoke(["a"], at=at)
    assert store.added[0][1] == kept


async def test_what_is_put_on_it_is_counted() -> None:
    metrics = Metrics()
    assert await RevocationList(Asked(), metrics).revoke(["a", "b", "c"])
    assert (counted(metrics, "ok"), counted(metrics, "failed")) == (3, 0)


async def test_an_unavailable_store_is_told_and_counted_and_raises_nothing_at_a_sign_out() -> None:
    metrics = Metrics()
    revocations = RevocationList(Asked("it is down"), metrics)
    assert not await revocations.revoke(["a", "b"])
    assert (counted(metrics, "ok"), counted(metrics, "failed")) == (0, 2)
    assert revocations.problem == "it is down"
    assert b"it is down" not in generate_latest(metrics.registry)

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.events.flood import SECOND, SWEEP_FROM, TokenBuckets


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self, now: int = 0) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock(now=12_345_678_901_234)


def taken(buckets: TokenBuckets, key: str, tries: int = 1000) -> int:
    return sum(buckets.take(key) for _ in range(tries))


@pytest.mark.parametrize(
    ("per_second", "seconds", "tokens"),
    [
        (5, 0.199999999, 0),
        (5, 0.2, 1),
        (5, 9.9, 49),
        (5, 11, 50),
        (5 / 60, 11.999999999, 0),
        (5 / 60, 12, 1),
        (3, 0.333333333, 0),  # a rate that divides no second is rounded down
    ],
)
def test_an_empty_bucket_fills_evenly_up_to_its_burst(
    clock: Clock, per_second: float, seconds: float, tokens: int
) -> None:
    buckets = TokenBuckets(per_second=per_second, burst=50, clock=clock)
    assert taken(buckets, "a") == 50
    clock.now += round(seconds * SECOND)
    assert taken(buckets, "a") == tokens


def test_full_buckets_are_forgotten(clock: Clock) -> None:
    """100,000 strangers, of whom each comes once, at 1,000 a second: a bucket of theirs is full again after 1 s."""
    buckets = TokenBuckets(per_second=1, burst=10, clock=clock)
    most = 0
    for stranger in range(100_000):
        assert buckets.take(str(stranger))
        most = max(most, len(buckets))
        clock.now += SECOND // 1000
    assert most <= 2 * 1000


def test_an_empty_bucket_is_not_forgotten_while_others_are(clock: Clock) -> None:
    buckets = TokenBuckets(per_second=1, burst=10, clock=clock)
    taken(buckets, "flooder")
    for stranger in range(10 * SWEEP_FROM):
        buckets.take(str(stranger))
        clock.now += SECOND // 10_000
    assert taken(buckets, "flooder") == 1, "1 s went by"


@given(
    per_second=st.integers(1, 1_000_000),
    burst=st.integers(1, 100),
    start=st.integers(0, 10**18),
    pauses=st.lists(st.integers(0, 3 * SECOND) | st.integers(0, 3000), min_size=1, max_size=300),
)
def test_within_any_time_no_more_than_burst_and_rate_are_taken(
    per_second: int, burst: int, start: int, pauses: list[int]
) -> None:
    """Exactly, in whole numbers: between any two tokens, both counted."""
    clock = Clock(start)
    buckets = TokenBuckets(per_second=per_second, burst=burst, clock=clock)
    times = []
    for pause in pauses:
        clock.now += pause
        if buckets.take("a"):
            times.append(clock.now)
    for first, began in enumerate(times):
        for last, ended in enumerate(times[first:], first):
            assert (last - first + 1 - burst) * SECOND <= per_second * (ended - began)

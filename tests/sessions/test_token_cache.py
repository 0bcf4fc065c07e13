"""What is cached and for how long. That only verified tokens are, ``test_check.py`` holds."""

import pytest

from service.clerk.verdict import Identity
from service.sessions.check import MAX_REMEMBERED, TokenCache

NOW = 1_790_000_000


class Clocks:
    """A cache, and the time on either clock."""

    def __init__(self) -> None:
        self.wall, self.monotonic = float(NOW), 5000.0
        self.cache = TokenCache(clock=lambda: self.wall, monotonic=lambda: self.monotonic)

    def wait(self, seconds: float, *, step: float = 0) -> None:
        """Let time pass, and the wall clock be set meanwhile."""
        self.wall += seconds + step
        self.monotonic += seconds

    def put(self, number: int, expires: int = NOW + 60) -> None:
        self.cache.put(b"token %d" % number, Identity(f"user_{number}", "sess_1", expires_at=expires))

    def has(self, number: int) -> bool:
        return self.cache.get(b"token %d" % number) is not None


@pytest.mark.parametrize(
    ("lifetime", "remembered"),
    [(10, 10), (60, 60), (30 * 24 * 3600, 60), (-2, 0)],
    ids=["until exp", "until exp, a minute", "for a minute at most", "not within the leeway"],
)
def test_a_token_is_remembered_until_exp_and_for_a_minute(lifetime: int, remembered: float) -> None:
    """Whoever stole a key that is withdrawn since may have written any ``exp`` into it."""
    clocks = Clocks()
    clocks.put(1, NOW + lifetime)
    clocks.wait(remembered - 0.001)
    assert clocks.has(1) is (remembered > 0)
    clocks.wait(0.001)
    assert not clocks.has(1)


@pytest.mark.parametrize(("seconds", "step"), [(60, -7200), (60, -0.5), (1, 60)])
def test_a_clock_that_is_set_lets_no_token_be_remembered_longer(seconds: float, step: float) -> None:
    clocks = Clocks()
    clocks.put(1)
    clocks.wait(seconds, step=step)
    assert not clocks.has(1)


def test_beyond_the_bound_the_oldest_is_forgotten() -> None:
    clocks = Clocks()
    for number in range(MAX_REMEMBERED + 2):
        clocks.put(number)
    assert [clocks.has(number) for number in (0, 1, 2, MAX_REMEMBERED + 1)] == [False, False, True, True]
    assert len(clocks.cache) == MAX_REMEMBERED == 10_000


def test_what_has_expired_is_forgotten_when_another_token_comes() -> None:
    clocks = Clocks()
    for number in range(50):
        clocks.put(number)
    clocks.wait(60)
    clocks.put(50, NOW + 120)
    assert len(clocks.cache) == 1

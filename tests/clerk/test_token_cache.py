"""What is cached and for how long. That only verified tokens are, ``tests/sessions`` holds."""

import pytest

from service.clerk.token_cache import TokenCache
from service.clerk.verdict import Identity

NOW = 1_790_000_000


class Clock:
    def __init__(self) -> None:
        self.now: float = NOW

    def __call__(self) -> float:
        return self.now


class Tried:
    """What is remembered of tokens, by a clock within reach."""

    def __init__(self, most: int = 100) -> None:
        self.clock, self.monotonic = Clock(), Clock()
        self.cache = TokenCache(max_tokens=most, clock=self.clock, monotonic=self.monotonic)

    def wait(self, seconds: float, *, step: float = 0) -> None:
        """Let time pass, and the wall clock be set meanwhile."""
        self.clock.now += seconds + step
        self.monotonic.now += seconds

    def use(self, *tokens: int, expires: int = NOW + 60) -> int:
        """Look tokens up, and put in those that are not remembered, as who verifies them; give how many that were."""
        verifications = 0
        for number in tokens:
            token = b"token %d" % number
            if self.cache.get(token) is None:
                verifications += 1
                self.cache.put(token, Identity(f"user_{number}", "sess_1", expires_at=expires))
        return verifications


def test_a_verified_token_is_verified_once() -> None:
    assert Tried().use(1, 1, 1) == 1


@pytest.mark.parametrize(("later", "verifications"), [(59.999, 0), (60, 1)])
def test_a_token_that_lives_long_is_remembered_for_a_minute(later: float, verifications: int) -> None:
    """Whoever stole a key that is withdrawn since may have written any ``exp`` into it."""
    tried = Tried()
    tried.use(1, expires=NOW + 30 * 24 * 3600)
    tried.wait(later)
    assert tried.use(1, expires=NOW + 30 * 24 * 3600) == verifications


@pytest.mark.parametrize(
    ("later", "verifications"),
    [
        pytest.param(9.999, 0, id="until exp"),
        pytest.param(10, 1, id="not at exp"),
        pytest.param(12, 1, id="not within the leeway"),
    ],
)
def test_a_token_is_remembered_until_its_exp(later: float, verifications: int) -> None:
    tried = Tried()
    tried.use(1, expires=NOW + 10)
    tried.wait(later)
    assert tried.use(1, expires=NOW + 10) == verifications


@pytest.mark.parametrize("step", [-7200, -40, -0.5, 0, 40, 7200])
@pytest.mark.parametrize("lifetime", [10, 60, 3600])
def test_a_clock_that_is_set_lets_no_token_be_remembered_for_longer(step: float, lifetime: int) -> None:
    tried = Tried()
    tried.use(1, expires=NOW + lifetime)
    tried.wait(min(lifetime, 60), step=step)
    assert tried.cache.get(b"token 1") is None
    if step > 0:
        tried.use(2, expires=NOW + lifetime)
        tried.wait(0, step=-step)
        assert tried.cache.get(b"token 1") is None


def test_a_clock_that_is_set_ahead_ends_what_is_remembered() -> None:
    tried = Tried()
    tried.use(1, expires=NOW + 60)
    tried.wait(1, step=60)
    assert tried.cache.get(b"token 1") is None


def test_a_token_within_the_leeway_is_not_remembered() -> None:
    tried = Tried()
    assert tried.use(1, 1, 1, expires=NOW - 2) == 3
    assert len(tried.cache) == 0


def test_beyond_the_bound_the_oldest_is_forgotten() -> None:
    tried = Tried(most=3)
    tried.use(*range(5))
    assert len(tried.cache) == 3
    assert tried.use(2, 3, 4) == 0
    assert tried.use(0) == 1


def test_what_has_expired_is_forgotten_when_another_token_comes() -> None:
    tried = Tried()
    tried.use(*range(50))
    tried.wait(60)
    tried.use(50, expires=NOW + 120)
    assert len(tried.cache) == 1

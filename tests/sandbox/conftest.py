import pytest

from service.sandbox.instance import Instance
from tests.support.signing import ISSUER

SECRET = "sk_test_sandbox"


class Clock:
    """Seconds since 1970 that a test sets."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def instance(clock: Clock) -> Instance:
    return Instance(ISSUER, SECRET, clock=clock)

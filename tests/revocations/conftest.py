"""Stores to try: in memory, and in a real Redis that all these tests share."""

from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from service.revocations.memory_store import MemoryStore
from service.revocations.redis_commands import RedisCommands
from service.revocations.redis_store import RedisStore
from service.revocations.store import RevocationStore
from tests.support.redis_server import RedisServer, redis_server


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Sharers:
    """Who shares a store: one that signs out, and one that asks. With memory they are one and the same."""

    def __init__(self, store: RevocationStore, other: RevocationStore, let_pass: Callable[[float], object]) -> None:
        self.store = store
        self.other = other
        self.let_pass = let_pass
        """Has so many seconds pass."""


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def redis(shared_redis: RedisServer) -> RedisServer:
    """A running Redis with nothing in it. Whoever kills or freezes one starts one of their own."""
    shared_redis.do("FLUSHALL")
    return shared_redis


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """One that the test may kill and freeze."""
    with redis_server() as server:
        yield server


@pytest.fixture(params=["memory", "redis"])
async def sharers(request: pytest.FixtureRequest, clock: Clock) -> AsyncIterator[Sharers]:
    def let_pass(seconds: float) -> None:
        clock.now += seconds

    if request.param == "memory":
        memory = MemoryStore(clock=clock)
        yield Sharers(memory, memory, let_pass)
        await memory.close()
        return

    redis: RedisServer = request.getfixturevalue("redis")
    stores = [RedisStore(RedisCommands(redis.url, within=5), clock=clock) for _ in range(2)]

    def let_pass_in_redis_too(seconds: float) -> None:
        let_pass(seconds)
        # A little more: when an entry ends is reckoned from the moment before Redis was asked what time it is.
        redis.let_pass(seconds + 0.5)

    for store in stores:
        await store.start()
        assert store.problem is None
    yield Sharers(stores[0], stores[1], let_pass_in_redis_too)
    for store in stores:
        await store.close()

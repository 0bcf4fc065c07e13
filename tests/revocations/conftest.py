"""Stores to try: in memory, and in a real Redis that all these tests share."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from service.revocations.redis_commands import RedisCommands
from service.revocations.redis_store import RedisStore
from service.revocations.revocation_list import MemoryStore, RevocationStore
from tests.support.redis_server import RedisServer, redis_server, until

AT = 1_790_000_000.5
SECONDS = 5.0
"""For each reply and answer, so that a busy machine is no outage; where time matters the test says what it needs."""


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


@asynccontextmanager
async def opened(redis: str | RedisCommands, **options: Any) -> AsyncIterator[RedisStore]:
    """Open a store over a Redis that may be down."""
    commands = RedisCommands(redis, reply_timeout=SECONDS) if isinstance(redis, str) else redis
    if "clock" in options:
        options.setdefault("wall_clock", options["clock"])
    store = RedisStore(commands, **{"timeout": SECONDS} | options)
    await store.start()
    try:
        yield store
    finally:
        await store.close()


async def until_up(*stores: RedisStore) -> None:
    await until(lambda: all(store.problem is None for store in stores))


async def until_down(store: RedisStore) -> str:
    await until(lambda: store.problem is not None)
    assert store.problem is not None
    return store.problem


async def until_known(redis: RedisServer, key: str) -> None:
    await until(lambda: redis.left(key) > 0)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged, with seconds left out."""
    return [record.getMessage().partition(", after")[0] for record in caplog.records if record.levelno > logging.INFO]


async def cancel(task: "asyncio.Task[Any]") -> None:
    task.cancel()
    await asyncio.wait({task})


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
    if request.param == "memory":
        memory = MemoryStore(clock=clock, wall_clock=clock)
        yield Sharers(memory, memory, clock.pass_by)
        await memory.close()
        return
    server: RedisServer = request.getfixturevalue("redis")

    def let_pass(seconds: float) -> None:
        clock.pass_by(seconds)
        server.let_pass(seconds)

    async with opened(server.url, clock=clock) as store, opened(server.url, clock=clock) as other:
        await until_up(store, other)
        yield Sharers(store, other, let_pass)

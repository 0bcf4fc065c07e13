"""Stores to try: in memory, and in a real Redis that all these tests share."""

import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest

from service.revocations import redis_commands
from service.revocations.redis_commands import Entry, RedisCommands
from service.revocations.redis_store import RedisStore
from service.revocations.revocation_list import MemoryStore, RevocationsUnavailableError
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


class Flaky(RedisCommands):
    """Redis, with answers that are lost now and then; it counts round trips."""

    def __init__(self, url: str, reply_timeout: float = SECONDS) -> None:
        super().__init__(url, reply_timeout=reply_timeout)
        self.lost_puts = self.finds = self.looks = self.resolves = 0

    async def put(self, batches: Sequence[Sequence[Entry]]) -> Sequence[None]:
        self.lost_puts -= 1
        if self.lost_puts >= 0:
            raise RevocationsUnavailableError("Redis: lost")
        return await super().put(batches)

    async def find(self, session_ids: Sequence[str]) -> Sequence[str | None]:
        self.finds += 1
        return await super().find(session_ids)

    async def resolve(self) -> None:
        self.resolves += 1
        await super().resolve()

    async def probe(self) -> bool:
        is_lost = await super().probe()
        self.looks += 1
        return is_lost


@asynccontextmanager
async def opened(redis: str | RedisCommands, **options: Any) -> AsyncIterator[RedisStore]:
    """Open a store over a Redis that may be down."""
    commands = RedisCommands(redis, reply_timeout=SECONDS) if isinstance(redis, str) else redis
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
    return str(store.problem)


async def until_known(redis: RedisServer, key: str) -> None:
    await until(lambda: redis.left(key) > 0)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged, with reasons and seconds left out."""
    messages = (record.getMessage() for record in caplog.records if record.levelno > logging.INFO)
    return [message.partition(", after")[0].partition(". ")[0] for message in messages]


class Sharers(NamedTuple):
    """Who shares a store: one that signs out, and one that asks. With memory they are one and the same."""

    store: MemoryStore
    other: MemoryStore
    let_pass: Callable[[float], None]
    """Has so many seconds pass."""


@pytest.fixture(autouse=True)
def a_busy_machine_is_no_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_commands, "CONNECT_TIMEOUT", SECONDS)


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
async def sharers(request: pytest.FixtureRequest, redis: RedisServer, clock: Clock) -> AsyncIterator[Sharers]:
    def let_pass(seconds: float) -> None:
        clock.now += seconds
        redis.let_pass(seconds)

    if request.param == "memory":
        memory = MemoryStore(clock=clock)
        yield Sharers(memory, memory, let_pass)
        return
    async with opened(redis.url, clock=clock) as store, opened(redis.url, clock=clock) as other:
        yield Sharers(store, other, let_pass)

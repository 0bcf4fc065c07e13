"""A store over a Redis, opened and closed."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from service.revocations.redis_commands import RedisCommands
from service.revocations.redis_store import RedisStore
from tests.support.redis_server import until

AT = 1_790_000_000.5


@asynccontextmanager
async def opened(url: str, *, within: float = 5, **options: Any) -> AsyncIterator[RedisStore]:
    """Within 5 s, so that a busy machine is no outage; where time matters, the test says what it needs."""
    store = RedisStore(RedisCommands(url, within=within), **options)
    await store.start()
    try:
        yield store
    finally:
        await store.close()


async def until_up(store: RedisStore) -> None:
    await until(lambda: store.problem is None)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged, with seconds left out."""
    return [record.getMessage().partition(", after")[0] for record in caplog.records if record.levelno > logging.INFO]

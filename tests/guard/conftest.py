"""Applications that a guard protects, opened with their lifespan and called in this process."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from asgi_lifespan import LifespanManager
from starlette.types import ASGIApp

from service.settings import Settings

InEnvironment = Callable[..., None]


@asynccontextmanager
async def client_of(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application whose lifespan nobody runs."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://app") as client:
        yield client


@asynccontextmanager
async def started(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application that a server has started, and stops."""
    async with LifespanManager(app) as manager, client_of(manager.app) as client:
        yield client


def is_open(path: Path) -> bool:
    """Whether this process has a file open."""
    return any(link.resolve() == path for link in Path("/proc/self/fd").iterdir())


@pytest.fixture
def in_environment(settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> InEnvironment:
    """Puts settings into the environment, as an operator does; those of the tests unless told otherwise."""

    def put(**changes: Any) -> None:
        for name, value in settings(**changes).model_dump(exclude_unset=True).items():
            text = value.get_secret_value() if hasattr(value, "get_secret_value") else value
            monkeypatch.setenv(name.upper(), ",".join(text) if isinstance(text, tuple) else str(text))

    return put

"""Fixtures that every room uses. No test reads event lines but through ``tests.support.lines``."""

import functools
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import pytest
from asgi_lifespan import LifespanManager
from prometheus_client import disable_created_metrics
from starlette.types import ASGIApp, Receive, Scope, Send

from service import resources
from service.app import create_app
from service.events.log import EventLog, Timeouts
from service.revocations import redis_commands, redis_store
from service.revocations.redis_commands import RedisCommands
from service.revocations.redis_store import RedisStore
from service.settings import Settings
from tests.support.lines import EventFile, read_lines
from tests.support.signing import ORIGIN, pem

OpenClient = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]

# Derandomized where everybody waits for it; `make test-all` looks further.
hypothesis.settings.register_profile("quick", max_examples=50, deadline=None, derandomize=True)
hypothesis.settings.register_profile("full", max_examples=2_000, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.fixture(autouse=True)
def every_emitted_line_holds_to_its_schema(tmp_path: Path) -> Iterator[None]:
    """Tests put event logs at ``tmp_path/**/*.jsonl``; what they emitted is read again here, rotated files too."""
    yield
    for path in tmp_path.rglob("*.jsonl*"):
        with path.open("rb") as file:
            read_lines(file)


@pytest.fixture(scope="session", autouse=True)
def a_process_of_the_service() -> None:
    """Have prometheus-client show in the tests what it shows there."""
    disable_created_metrics()  # type: ignore[no-untyped-call]


@pytest.fixture
def patient_revocations(monkeypatch: pytest.MonkeyPatch) -> None:
    """The app and ``check`` take a slow machine for no outage of Redis."""
    monkeypatch.setattr(redis_commands, "CONNECT_TIMEOUT", 10.0)
    monkeypatch.setattr(redis_commands, "RedisCommands", functools.partial(RedisCommands, reply_timeout=10.0))
    monkeypatch.setattr(redis_store, "RedisStore", functools.partial(RedisStore, timeout=25.0))


@pytest.fixture
def logging_as_it_was() -> Iterator[None]:
    """For tests that start uvicorn in this process: it configures the logging of the whole of it."""
    root = logging.getLogger()
    level, handlers = root.level, [*root.handlers]
    yield
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def events(tmp_path: Path) -> EventFile:
    """The event log of ``settings``."""
    return EventFile(tmp_path / "events.jsonl")


@pytest.fixture
def settings(events: EventFile, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """Settings with a PEM key, one allowed origin and a file as event log, unless told otherwise."""
    # A slow machine is no stalled disk: no test meets the spool by accident.
    patient = functools.partial(EventLog, timeouts=Timeouts(answer=25.0, output=20.0))
    monkeypatch.setattr(resources, "EventLog", patient)

    def build(**changes: Any) -> Settings:
        values: dict[str, Any] = {
            "clerk_jwt_key": pem(),
            "clerk_authorized_parties": ORIGIN,
            "event_log": str(events.path),
            "event_spool_dir": str(events.path.with_name("spool")),
            # Tests call far more often than any client; those of flood control say so.
            "flood_per_second": 1_000_000,
            "flood_per_session": 0,
        }
        return Settings(**(values | changes))

    return build


def replaced(app: ASGIApp, state: Mapping[str, Any], resources: Mapping[str, Any]) -> ASGIApp:
    """Middleware that puts a test's own parts in the place of those that the lifespan opened."""

    async def with_own_parts(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            opened = scope["state"]
            scope["state"] = opened | state | {"resources": replace(opened["resources"], **resources)}
        await app(scope, receive, send)

    return with_own_parts


@pytest.fixture
def open_client(settings: Callable[..., Settings]) -> OpenClient:
    """Open the app in this process: ``async with open_client(event_client_ip=True) as client``.

    ``resources`` and ``state`` replace what endpoints find there; everything else is a setting.
    """

    @asynccontextmanager
    async def open_(
        *,
        peer: tuple[str, int] = ("203.0.113.77", 51234),
        resources: Mapping[str, Any] | None = None,
        state: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> AsyncIterator[httpx.AsyncClient]:
        app = create_app(settings(**changes))
        if resources or state:
            app.add_middleware(replaced, state=state or {}, resources=resources or {})
        async with LifespanManager(app) as manager:
            transport = httpx.ASGITransport(app=manager.app, client=peer)
            async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
                yield client

    return open_


@pytest.fixture
async def client(open_client: OpenClient) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the app with the default test settings."""
    async with open_client() as client:
        yield client

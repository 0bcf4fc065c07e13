"""What a guard opens by itself, and when."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from service.events.request import read_head
from service.guard.opening import LazyCheck, open_session_check
from service.sessions.check import SessionCheck, SessionUser
from service.settings import ConfigurationError, Settings, load_settings
from tests.guard.parts import Parts, bearer, of_session, scope
from tests.support.lines import EventFile
from tests.support.signing import pem


class Opened:
    """Counts how often it is opened and closed; opening takes a turn of the event loop."""

    def __init__(self) -> None:
        self.opened = self.closed = 0

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[SessionCheck]:
        self.opened += 1
        await asyncio.sleep(0)
        yield Parts().check
        self.closed += 1


async def test_many_requests_at_once_open_one_check() -> None:
    opened = Opened()
    lazy = LazyCheck(opening=opened)
    checks = await asyncio.gather(*(lazy.get() for _ in range(10)))
    assert (len(set(map(id, checks))), opened.opened) == (1, 1)


async def test_it_is_closed_once_and_opened_anew() -> None:
    opened = Opened()
    lazy = LazyCheck(opening=opened)
    for times in (1, 2):
        await lazy.get()
        await lazy.close()
        await lazy.close()
        assert (opened.opened, opened.closed) == (times, times)


async def test_what_could_not_be_opened_is_tried_again(settings: Callable[..., Settings], events: EventFile) -> None:
    tries = iter([settings(event_log=str(events.path / "no directory")), settings()])
    lazy = LazyCheck(opening=lambda: open_session_check(next(tries)))
    with pytest.raises(ConfigurationError, match=r"^EVENT_LOG: cannot be opened"):
        await lazy.get()
    assert isinstance(await admitted_by(await lazy.get()), SessionUser)
    await lazy.close()


async def admitted_by(check: SessionCheck) -> object:
    """The outcome for a token that counts."""
    return await check(read_head(scope(bearer(of_session()))))


async def test_a_list_that_several_share_is_not_warned_of(
    settings: Callable[..., Settings], caplog: pytest.LogCaptureFixture
) -> None:
    async with open_session_check(settings(revocations_url="redis://127.0.0.1:1/0")):
        pass
    assert [record for record in caplog.records if record.name == "service.guard"] == []


async def test_its_numbers_are_in_the_applications_registry(
    settings: Callable[..., Settings],
) -> None:
    registry = CollectorRegistry()
    async with open_session_check(settings(), registry) as check:
        await admitted_by(check)
        assert registry.get_sample_value("clerk_logout_session_checks_total", {"result": "admitted"}) == 1
    assert registry.get_sample_value("clerk_logout_session_checks_total", {"result": "admitted"}) is None


async def test_how_the_application_is_served_is_not_judged(
    in_environment: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    in_environment()
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("HOST=\nWORKERS=4\n", "utf-8")
    for name, value in {"PORT": "tcp://10.0.0.1:80", "LOG_LEVEL": "trace"}.items():
        monkeypatch.setenv(name, value)
    async with open_session_check() as check:
        assert isinstance(await admitted_by(check), SessionUser)


def test_a_guards_spool_is_not_the_services(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would deliver the service's waiting events to its own log."""
    monkeypatch.setenv("CLERK_JWT_KEY", pem())
    assert load_settings(for_guard=True).event_spool_dir != load_settings().event_spool_dir

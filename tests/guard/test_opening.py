"""What a guard opens by itself; ``test_middleware.py`` has when."""

from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from service.events.request import read_head
from service.guard.middleware import open_session_check
from service.sessions.check import SessionCheck, SessionUser
from service.settings import load_settings
from tests.guard.parts import bearer, of_session, scope
from tests.support.signing import pem


async def admitted_by(check: SessionCheck) -> object:
    """The outcome for a token that counts."""
    return await check(read_head(scope(bearer(of_session()))))


async def test_a_list_that_several_share_is_not_warned_of(
    in_environment: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    in_environment(revocations_url="redis://127.0.0.1:1/0")
    async with open_session_check():
        pass
    assert [record for record in caplog.records if record.name == "service.guard"] == []


async def test_its_numbers_are_in_the_applications_registry(in_environment: Callable[..., None]) -> None:
    in_environment()
    registry = CollectorRegistry()
    async with open_session_check(registry) as check:
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

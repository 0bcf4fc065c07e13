"""What holds for the application as a whole; its endpoints have tests of their own."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from service.clerk.backend_api import BackendApi
from service.resources import check_settings
from service.settings import ConfigurationError, Settings
from service.telemetry.diagnostics import configure_logging
from tests.conftest import OpenClient
from tests.support.clerk import SECRET_KEY
from tests.support.lines import EventFile
from tests.support.signing import ORIGIN, token

SESSION = "/v1/auth/session"
PREFLIGHT = {
    "Origin": ORIGIN,
    "Access-Control-Request-Method": "DELETE",
    "Access-Control-Request-Headers": "authorization",
}
NOT_ALLOWED = "Disallowed CORS origin"
READABLE = {
    "access-control-allow-origin": ORIGIN,
    "access-control-allow-credentials": "true",
    "access-control-expose-headers": "X-Request-ID, WWW-Authenticate, Retry-After",
}


# --- CORS ------------------------------------------------------------------------------------------------------------


async def test_a_preflight_from_an_allowed_origin_is_granted(client: httpx.AsyncClient, events: EventFile) -> None:
    """But no access to a private network."""
    response = await client.options(SESSION, headers=PREFLIGHT | {"Access-Control-Request-Private-Network": "true"})
    assert response.status_code == 200
    granted = {name: value for name, value in response.headers.items() if name.startswith("access-control-")}
    assert granted == {
        "access-control-allow-origin": ORIGIN,
        "access-control-allow-credentials": "true",
        "access-control-allow-headers": "authorization",
        "access-control-allow-methods": "DELETE, GET, HEAD",
        "access-control-max-age": "7200",
    }
    assert events.new() == []


@pytest.mark.parametrize("asked", ["authorization,sentry-trace", None])
async def test_a_preflight_may_ask_for_any_header(client: httpx.AsyncClient, asked: str | None) -> None:
    """By name: a ``*`` would not cover Authorization."""
    fields = PREFLIGHT | {"Access-Control-Request-Headers": asked}
    response = await client.options(SESSION, headers={name: value for name, value in fields.items() if value})
    assert (response.status_code, response.headers.get("access-control-allow-headers")) == (200, asked)


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ({"Origin": "null"}, NOT_ALLOWED),
        ({"Origin": f"{ORIGIN}.evil.com"}, NOT_ALLOWED),
        ({"Access-Control-Request-Method": "POST"}, "Disallowed CORS method"),
    ],
)
async def test_a_refused_preflight_is_told_once_and_counted(
    open_client: OpenClient, caplog: pytest.LogCaptureFixture, asked: dict[str, str], problem: str
) -> None:
    async with open_client() as client:
        answers = [await client.options(SESSION, headers=PREFLIGHT | asked) for _ in range(3)]
        metrics = (await client.get("/metrics")).text
    assert [answer.status_code for answer in answers] == [400] * 3
    assert ("access-control-allow-origin" in answers[0].headers) is ("Origin" not in asked)
    assert "clerk_logout_preflights_refused_total 3.0" in metrics
    told = [record.getMessage() for record in caplog.records if record.name == "service.cors"]
    origin = (PREFLIGHT | asked)["Origin"]
    assert told == [f"a preflight from {origin} was refused: {problem} (origins: CLERK_AUTHORIZED_PARTIES)"]


@pytest.mark.parametrize("origin", [None, ORIGIN, "https://evil.example.com"], ids=["none", "allowed", "another"])
async def test_every_response_varies_by_origin(client: httpx.AsyncClient, origin: str | None) -> None:
    """A cache must not serve one origin's answer to another (Fetch standard, "CORS protocol and HTTP caches")."""
    for method, status in (("DELETE", 200), ("POST", 405)):
        response = await client.request(method, SESSION, headers={"Origin": origin} if origin else {})
        assert response.status_code == status
        assert response.headers.get_list("vary") == ["Origin"]
        cors = {name: value for name, value in response.headers.items() if name.startswith("access-control-")}
        assert cors == (READABLE if origin == ORIGIN else {})


async def test_of_two_origins_the_first_counts(open_client: OpenClient) -> None:
    evil, others = ("Origin", "https://evil.example.com"), "https://a.example,https://b.example"
    async with open_client(clerk_authorized_parties=others) as client:
        first = await client.delete(SESSION, headers=[("Origin", "https://b.example"), evil])
        second = await client.delete(SESSION, headers=[evil, ("Origin", "https://b.example")])
    assert first.headers["access-control-allow-origin"] == "https://b.example"
    assert "access-control-allow-origin" not in second.headers


async def test_without_origins_cors_is_off(open_client: OpenClient) -> None:
    async with open_client(clerk_authorized_parties=()) as client:
        preflight = await client.options(SESSION, headers=PREFLIGHT)
        actual = await client.delete(SESSION, headers={"Origin": ORIGIN})
    assert (preflight.status_code, actual.status_code) == (400, 200)
    assert "access-control-allow-origin" not in preflight.headers
    assert not [name for name in actual.headers if name.startswith(("access-control", "vary"))]


# --- What the settings lead to ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("logging_as_it_was")
async def test_no_log_level_keeps_events_from_standard_output(
    open_client: OpenClient, capfd: pytest.CaptureFixture[str]
) -> None:
    configure_logging("critical")
    async with open_client(event_log="-") as client:
        event_id = (await client.delete(SESSION)).json()["event_id"]
    (line,) = capfd.readouterr().out.splitlines()
    assert event_id in line


@pytest.mark.parametrize("what", ["issuer", "audience", "authorized_parties"])
async def test_a_token_of_somebody_else_is_rejected(open_client: OpenClient, events: EventFile, what: str) -> None:
    async with open_client(**{f"clerk_{what}": "https://other.example"}) as client:
        await client.delete(SESSION, headers={"Authorization": f"Bearer {token()}"})
    assert events.one()["reason"] == f"token-invalid-{what.replace('_', '-')}"


async def test_the_warm_up_holds_up_neither_start_nor_end(
    open_client: OpenClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def warm_up() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    monkeypatch.setattr(BackendApi, "warm_up", staticmethod(warm_up))
    async with open_client(clerk_secret_key=SECRET_KEY) as client:
        await began.wait()
        assert (await client.get("/healthz")).status_code == 200
        assert not ended.is_set()
    await ended.wait()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a directory to another user")
def test_a_spool_directory_of_another_user_is_refused(settings: Callable[..., Settings], tmp_path: Path) -> None:
    """Who owns it could put events of his own there."""
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o777)
    os.chown(theirs, 12345, 12345)
    with pytest.raises(ConfigurationError, match=r"^EVENT_SPOOL_DIR: .* belongs to another user"):
        check_settings(settings(event_spool_dir=str(theirs)))

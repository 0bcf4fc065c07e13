"""What was promised, tried from outside: the service as a process, the sandbox as Clerk, devices that sign in and out.

Everything holds for both revocation lists, in memory and in Redis.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.lines import EventFile
from tests.support.processes import TIMEOUT, ask_session, serve, wait_until
from tests.support.redis_server import redis_server
from tests.support.served_clerk import Browser, Clerk, serve_clerk


def call(url: str, method: str, path: str, token: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.request(method, f"{url}/v1/auth/{path}", headers=headers, timeout=TIMEOUT)


def reason(url: str, token: str) -> str | None:
    """Why a token does not count."""
    answer = ask_session(url, token)
    return None if answer.status_code == 200 else str(answer.json()["reason"])


@dataclass(frozen=True, slots=True)
class System:
    """A running service, and the stand-in for Clerk that it knows."""

    url: str
    clerk: Clerk
    settings: dict[str, str]
    log: Path

    def event(self, user_id: str, name: str, *, times: int = 1) -> dict[str, Any]:
        """The one event of a kind about a user, once it has come so often; it may come more often, or late."""

        def found() -> list[dict[str, Any]]:
            return [one for one in EventFile(self.log).new() if (one["user_id"], one["event"]) == (user_id, name)]

        wait_until(lambda: len(found()) >= times, name)
        (event,) = {event["event_id"]: event for event in found()}.values()
        return event

    def sign_in(self, user_id: str) -> tuple[Browser, str]:
        """A new device of a user, and a token that was read on it and counts."""
        browser = self.clerk.sign_in(user_id)
        token = browser.token()
        assert reason(self.url, token) is None
        return browser, token

    def log_out_everywhere(self, token: str, scope: str = "all") -> Any:
        return call(self.url, "DELETE", f"sessions?scope={scope}", token).raise_for_status().json()


@pytest.fixture(scope="module", params=["memory", "redis"])
def system(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    log = tmp_path_factory.mktemp(request.param) / "events.jsonl"
    with ExitStack() as stack:
        clerk = stack.enter_context(serve_clerk())
        url = stack.enter_context(redis_server()).url if request.param == "redis" else "memory://"
        settings = clerk.settings() | {
            "CLERK_WEBHOOK_SIGNING_SECRET": clerk.instance.webhook_secret,
            "EVENT_LOG": str(log),
            "REVOCATIONS_URL": url,
        }
        yield System(stack.enter_context(serve(settings=settings)).url, clerk, settings, log)


def test_a_token_is_refused_after_its_logout_and_no_other(system: System) -> None:
    """As in the README: the token is read, the service is told, Clerk ends the session.

    That the token is used all the same is reported once.
    """
    browser, token = system.sign_in("user_logout")
    _, other = system.sign_in("user_logout")
    answer = call(system.url, "DELETE", "session", token)
    assert (answer.status_code, answer.json()["success"]) == (200, True)
    event = system.event("user_logout", "user_logout")
    assert event["event_id"] == answer.json()["event_id"]
    browser.sign_out()
    assert browser.ask_for_token().status_code == 401
    assert [reason(system.url, token) for _ in range(5)] == ["session-revoked"] * 5
    event = system.event("user_logout", "session_used_after_logout")
    assert (event["session_id"], event["issued_after_logout"]) == (browser.session_id, False)
    assert reason(system.url, other) is None
    assert call(system.url, "DELETE", "session", token).status_code == 200, "and may log out again"


def test_three_devices_are_signed_out_at_once(system: System) -> None:
    """Another process refuses their tokens too, through Redis; in memory each knows of its own sign-outs only."""
    devices = [system.sign_in("user_everywhere") for _ in range(3)]
    tokens = [token for _, token in devices]
    body = system.log_out_everywhere(tokens[0])
    assert (body["success"], body["revoked_sessions"], body["failed_sessions"]) == (True, 3, 0)
    assert body["message"] == "Logged out from all devices successfully"
    assert [reason(system.url, token) for token in tokens] == ["session-revoked"] * 3
    assert [browser.ask_for_token().status_code for browser, _ in devices] == [401] * 3
    event = system.event("user_everywhere", "user_logout_everywhere")
    assert (event["event_id"], event["revoked_sessions"]) == (body["event_id"], 3)
    with serve(settings=system.settings) as second:
        known = None if system.settings["REVOCATIONS_URL"] == "memory://" else "session-revoked"
        assert [reason(second.url, token) for token in tokens] == [known] * 3
    assert system.log_out_everywhere(tokens[0])["revoked_sessions"] == 0


def test_others_keeps_the_callers_session(system: System) -> None:
    """And signs out nobody else."""
    browser, token = system.sign_in("user_others")
    others = [system.sign_in("user_others")[1] for _ in range(2)]
    _, of_another = system.sign_in("user_you")
    assert system.log_out_everywhere(token, "others")["revoked_sessions"] == 2
    assert [reason(system.url, kept) for kept in (token, of_another)] == [None, None]
    assert browser.ask_for_token().status_code == 200
    assert [reason(system.url, other) for other in others] == ["session-revoked"] * 2


def test_a_silent_sign_out_is_an_event_and_ends_the_token(system: System) -> None:
    """Clerk's webhook tells of it; one that comes again is the same event."""
    browser, token = system.sign_in("user_silent")
    with system.clerk.webhooks_to(f"{system.url}/v1/webhooks/clerk"):
        browser.sign_out()
        wait_until(lambda: reason(system.url, token) == "session-revoked", "the webhook")
        httpx.post(f"{system.clerk.url}/sandbox/webhooks/redeliver").raise_for_status()
        event = system.event("user_silent", "session_ended", times=2)
    assert (event["cause"], event["source"]) == ("removed", "clerk_webhook")
    assert event["session_id"] == browser.session_id

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
from tests.support.processes import TIMEOUT, serve, until_status
from tests.support.redis_server import redis_server
from tests.support.served_clerk import Browser, Clerk, serve_clerk


def call(url: str, method: str, path: str, token: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.request(method, f"{url}/v1/auth/{path}", headers=headers, timeout=TIMEOUT)


def until(status: int, url: str, token: str) -> None:
    """Ask about a token until the answer is that."""
    until_status(status, lambda: call(url, "GET", "session", token))


def is_refused(url: str, token: str) -> bool:
    """Whether its session is signed out, as the process knows at once that has done it."""
    answer = call(url, "GET", "session", token)
    return (answer.status_code, answer.json().get("reason")) == (401, "session-revoked")


@dataclass(frozen=True, slots=True)
class System:
    """A running service, and the stand-in for Clerk that it knows."""

    url: str
    clerk: Clerk
    settings: dict[str, str]
    log: Path

    def events(self, user_id: str, name: str) -> list[dict[str, Any]]:
        """The events of a kind so far about a user."""
        found = EventFile(self.log).new()
        return [event for event in found if (event["user_id"], event["event"]) == (user_id, name)]

    def sign_in(self, user_id: str) -> tuple[Browser, str]:
        """A new device of a user, and a token that was read on it and counts."""
        browser = self.clerk.sign_in(user_id)
        token = browser.token()
        until(200, self.url, token)
        return browser, token

    def log_out_everywhere(self, token: str, scope: str = "all") -> dict[str, Any]:
        answer = call(self.url, "DELETE", f"sessions?scope={scope}", token)
        assert answer.status_code == 200
        body: dict[str, Any] = answer.json()
        return body


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
    """As in the README: the token is read, the service is told, Clerk ends the session."""
    browser, token = system.sign_in("user_logout")
    _, other = system.sign_in("user_logout")
    answer = call(system.url, "DELETE", "session", token)
    assert (answer.status_code, answer.json()["success"]) == (200, True)
    (event,) = system.events("user_logout", "user_logout")
    assert event["event_id"] == answer.json()["event_id"]
    browser.sign_out()
    assert browser.ask_for_token().status_code == 401
    assert is_refused(system.url, token)
    until(200, system.url, other)
    assert call(system.url, "DELETE", "session", token).status_code == 200, "and may log out again"


def test_the_use_of_a_signed_out_token_is_reported_once(system: System) -> None:
    browser, token = system.sign_in("user_late")
    call(system.url, "DELETE", "session", token)
    assert all(is_refused(system.url, token) for _ in range(5))
    (event,) = system.events("user_late", "session_used_after_logout")
    assert (event["session_id"], event["issued_after_logout"]) == (browser.session_id, False)


def test_three_devices_are_signed_out_at_once(system: System) -> None:
    """Another process refuses their tokens too, through Redis; in memory each knows of its own sign-outs only."""
    devices = [system.sign_in("user_everywhere") for _ in range(3)]
    tokens = [token for _, token in devices]
    body = system.log_out_everywhere(tokens[0])
    assert (body["success"], body["revoked_sessions"], body["failed_sessions"]) == (True, 3, 0)
    assert body["message"] == "Logged out from all devices successfully"
    assert all(is_refused(system.url, token) for token in tokens)
    assert [browser.ask_for_token().status_code for browser, _ in devices] == [401] * 3
    (event,) = system.events("user_everywhere", "user_logout_everywhere")
    assert (event["event_id"], event["revoked_sessions"]) == (body["event_id"], 3)
    with serve(settings=system.settings) as second:
        for token in tokens:
            until(200 if system.settings["REVOCATIONS_URL"] == "memory://" else 401, second.url, token)
    assert system.log_out_everywhere(tokens[0])["revoked_sessions"] == 0


def test_others_keeps_the_callers_session(system: System) -> None:
    """And signs out nobody else."""
    browser, token = system.sign_in("user_others")
    others = [system.sign_in("user_others")[1] for _ in range(2)]
    _, of_another = system.sign_in("user_you")
    assert system.log_out_everywhere(token, "others")["revoked_sessions"] == 2
    for kept in (token, of_another):
        until(200, system.url, kept)
    assert browser.ask_for_token().status_code == 200
    assert all(is_refused(system.url, other) for other in others)


def test_a_silent_sign_out_is_an_event_and_ends_the_token(system: System) -> None:
    """Clerk's webhook tells of it; one that comes again is the same event."""
    webhooks = system.clerk.webhooks
    browser, token = system.sign_in("user_silent")
    webhooks.url = f"{system.url}/v1/webhooks/clerk"
    try:
        browser.sign_out()
        assert webhooks.next_answer() == 204
        httpx.post(f"{system.clerk.url}/sandbox/webhooks/redeliver").raise_for_status()
        assert webhooks.next_answer() == 204
    finally:
        webhooks.url = None
    assert is_refused(system.url, token)
    event, *again = system.events("user_silent", "session_ended")
    assert (event["cause"], event["source"]) == ("removed", "clerk_webhook")
    assert (event["session_id"], [copy["event_id"] for copy in again]) == (browser.session_id, [event["event_id"]])

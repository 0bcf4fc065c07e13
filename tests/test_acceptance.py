"""What was promised, tried from outside: the service as a process, the sandbox as Clerk, devices that sign in and out.

Everything holds for both revocation lists, in memory and in Redis.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.lines import EventFile
from tests.support.processes import TIMEOUT, serve
from tests.support.redis_server import redis_server
from tests.support.served_clerk import Browser, Clerk, serve_clerk


class Service:
    """The service as its callers see it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.Client(base_url=url, timeout=TIMEOUT)

    def log_out(self, token: str) -> httpx.Response:
        return self._call("DELETE", "/v1/auth/session", token)

    def log_out_everywhere(self, token: str, scope: str = "all") -> httpx.Response:
        return self._call("DELETE", f"/v1/auth/sessions?scope={scope}", token)

    def ask(self, token: str) -> httpx.Response:
        """Ask whether a token still counts, as often as the service says that it cannot tell for the moment.

        On a machine that is busy with other tests a Redis may take more than the 50 ms that it has.
        """
        deadline = time.monotonic() + TIMEOUT
        while True:
            answer = self._call("GET", "/v1/auth/session", token)
            if answer.status_code != 503 or time.monotonic() > deadline:
                return answer

    def refuses(self, token: str) -> bool:
        """Whether a token is refused because its session was signed out."""
        answer = self.ask(token)
        return answer.status_code == 401 and answer.json()["reason"] == "session-revoked"

    def _call(self, method: str, path: str, token: str) -> httpx.Response:
        return self._http.request(method, path, headers={"Authorization": f"Bearer {token}"})

    def close(self) -> None:
        self._http.close()


@dataclass(frozen=True, slots=True)
class System:
    """A running service, the stand-in for Clerk that it knows, and what is needed to start another one beside it."""

    service: Service
    clerk: Clerk
    settings: dict[str, str]
    log: Path

    def events(self, user_id: str, name: str | None = None) -> list[dict[str, Any]]:
        """The events so far about a user."""
        found = EventFile(self.log).new()
        return [event for event in found if event["user_id"] == user_id and name in {None, event["event"]}]

    def sign_in(self, user_id: str) -> tuple[Browser, str]:
        """A new device of a user, and a token that was read on it and counts."""
        browser = self.clerk.sign_in(user_id)
        token = browser.token()
        assert self.service.ask(token).status_code == 200
        return browser, token


@contextmanager
def running(settings: dict[str, str]) -> Iterator[Service]:
    with serve(settings=settings) as server, closing(Service(server.url)) as service:
        yield service


@pytest.fixture(scope="module", params=["memory", "redis"])
def system(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    directory = tmp_path_factory.mktemp(request.param)
    log = directory / "events.jsonl"
    with ExitStack() as stack:
        clerk = stack.enter_context(serve_clerk())
        url = stack.enter_context(redis_server()).url if request.param == "redis" else "memory://"
        settings = clerk.settings() | {
            "CLERK_WEBHOOK_SIGNING_SECRET": clerk.instance.webhook_secret,
            "EVENT_LOG": str(log),
            "REVOCATIONS_URL": url,
        }
        yield System(stack.enter_context(running(settings)), clerk, settings, log)


# --- Logout ----------------------------------------------------------------------------------------------------------


def test_a_token_is_refused_after_its_logout_and_no_other(system: System) -> None:
    _, token = system.sign_in("user_logout")
    _, other = system.sign_in("user_logout")
    answer = system.service.log_out(token)
    assert answer.status_code == 200
    assert answer.json()["success"] is True
    assert system.service.refuses(token)
    assert system.service.ask(other).status_code == 200
    assert system.service.log_out(token).status_code == 200, "and may log out again"


def test_after_the_whole_sign_out_no_token_is_to_be_had(system: System) -> None:
    """As in the README: the token is read, the service is told, Clerk ends the session."""
    browser, token = system.sign_in("user_whole")
    system.service.log_out(token)
    browser.sign_out()
    assert browser.ask_for_token().status_code == 401
    assert system.service.refuses(token)


def test_the_use_of_a_signed_out_token_is_reported_once(system: System) -> None:
    browser, token = system.sign_in("user_late")
    system.service.log_out(token)
    assert [system.service.refuses(token) for _ in range(5)] == [True] * 5
    (event,) = system.events("user_late", "session_used_after_logout")
    assert event["session_id"] == browser.session_id
    assert event["issued_after_logout"] is False


# --- Everywhere ------------------------------------------------------------------------------------------------------


def test_three_devices_are_signed_out_at_once(system: System) -> None:
    devices = [system.sign_in("user_everywhere") for _ in range(3)]
    tokens = [token for _, token in devices]
    answer = system.service.log_out_everywhere(tokens[0])
    assert answer.status_code == 200
    body = answer.json()
    assert (body["success"], body["revoked_sessions"], body["failed_sessions"]) == (True, 3, 0)
    assert body["message"] == "Logged out from all devices successfully"
    assert [system.service.refuses(token) for token in tokens] == [True] * 3
    assert [browser.ask_for_token().status_code for browser, _ in devices] == [401] * 3
    (event,) = system.events("user_everywhere", "user_logout_everywhere")
    assert (event["event_id"], event["revoked_sessions"]) == (body["event_id"], 3)
    again = system.service.log_out_everywhere(tokens[0])
    assert (again.status_code, again.json()["revoked_sessions"]) == (200, 0)


def test_another_process_refuses_the_tokens_too(system: System) -> None:
    """Through Redis; in memory each process knows of its own sign-outs only."""
    shared = system.settings["REVOCATIONS_URL"] != "memory://"
    tokens = [system.sign_in("user_two_processes")[1] for _ in range(3)]
    with running(system.settings) as second:
        assert system.service.log_out_everywhere(tokens[0]).status_code == 200
        assert [second.refuses(token) for token in tokens] == [shared] * 3


def test_others_keeps_the_callers_session(system: System) -> None:
    """And signs out nobody else."""
    browser, token = system.sign_in("user_others")
    others = [system.sign_in("user_others")[1] for _ in range(2)]
    _, of_another = system.sign_in("user_you")
    answer = system.service.log_out_everywhere(token, "others")
    assert (answer.status_code, answer.json()["revoked_sessions"]) == (200, 2)
    assert [system.service.ask(kept).status_code for kept in (token, of_another)] == [200, 200]
    assert browser.ask_for_token().status_code == 200
    assert [system.service.refuses(other) for other in others] == [True] * 2
    assert system.clerk.statuses("user_you") == ["active"]


# --- Webhooks --------------------------------------------------------------------------------------------------------


@pytest.fixture
def with_webhooks(system: System) -> Iterator[System]:
    """Clerk tells the service how sessions end."""
    system.clerk.webhooks.url = f"{system.service.url}/v1/webhooks/clerk"
    yield system
    system.clerk.webhooks.url = None


def test_a_silent_sign_out_is_an_event_and_ends_the_token(with_webhooks: System) -> None:
    browser, token = with_webhooks.sign_in("user_silent")
    browser.sign_out()
    assert with_webhooks.clerk.webhooks.next_answer() == 204
    (event,) = with_webhooks.events("user_silent")
    assert (event["event"], event["cause"], event["source"]) == ("session_ended", "removed", "clerk_webhook")
    assert event["session_id"] == browser.session_id
    assert with_webhooks.service.refuses(token)


def test_a_webhook_that_comes_again_is_the_same_event(with_webhooks: System) -> None:
    webhooks = with_webhooks.clerk.webhooks
    browser, _ = with_webhooks.sign_in("user_redelivered")
    browser.sign_out()
    assert webhooks.next_answer() == 204
    for _ in range(3):
        httpx.post(f"{with_webhooks.clerk.url}/sandbox/webhooks/redeliver").raise_for_status()
        assert webhooks.next_answer() == 204
    assert len({event["event_id"] for event in with_webhooks.events("user_redelivered")}) == 1

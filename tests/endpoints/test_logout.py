import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from asgi_lifespan import LifespanManager
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route
from starlette.types import Message

from service.app import create_app
from service.clerk.keys import PemKey
from service.clerk.verdict import Verdict
from service.clerk.verifier import Verifier
from service.endpoints.logout import Logout
from service.events import log as log_module
from service.events.flood import FloodControl
from service.events.types import Event
from service.telemetry.metrics import Metrics
from service.endpoints.middleware import ResponseHeaders
from service.events.client_address import ClientAddress
from service.events.request_facts import RequestFacts
from service.revocations.memory_store import MemoryStore
from service.revocations.revocation_list import RevocationList
from service.revocations.store import RevocationStore
from service.settings import Settings
from tests.conftest import OpenClient
from tests.support.lines import EventFile, read_lines
from tests.support.processes import TIMEOUT
from tests.support.signing import ORIGIN, claims, pem, private_key, token
from tests.support.spools import contents

SESSION = "/v1/auth/session"
NOBODY = {"user_id": None, "session_id": None, "org_id": None, "actor_id": None, "initiated_by": None}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def expired() -> str:
    return token(claims(now=time.time() - 3600))


# --- Who it was ------------------------------------------------------------------------------------------------------


async def test_a_valid_token_is_verified(client: httpx.AsyncClient, events: EventFile) -> None:
    response = await client.delete(SESSION, headers=bearer(token()))
    assert response.status_code == 200
    event = events.one()
    assert response.json() == {
        "success": True,
        "message": "Logged out successfully",
        "event_id": event["event_id"],
        "recorded": True,
    }
    assert (event["auth"], event["reason"]) == ("verified", None)
    assert (event["user_id"], event["session_id"]) == ("user_2xyzUVW", "sess_2abcDEF")


async def test_an_expired_token_still_says_who_it_was(client: httpx.AsyncClient, events: EventFile) -> None:
    await client.delete(SESSION, headers=bearer(expired()))
    event = events.one()
    assert (event["auth"], event["reason"]) == ("expired", "token-expired")
    assert (event["user_id"], event["session_id"]) == ("user_2xyzUVW", "sess_2abcDEF")


async def test_organisation_and_impersonator_are_recorded(client: httpx.AsyncClient, events: EventFile) -> None:
    of = claims(o={"id": "org_2abc", "rol": "admin"}, act={"sub": "user_2support"})
    await client.delete(SESSION, headers=bearer(token(of)))
    event = events.one()
    assert [event[key] for key in ("org_id", "actor_id", "initiated_by")] == ["org_2abc", "user_2support", "admin"]


@pytest.mark.parametrize(
    ("headers", "auth", "reason"),
    [
        pytest.param({}, "absent", "session-token-missing", id="nothing sent"),
        pytest.param({"Authorization": ""}, "absent", "session-token-missing", id="an empty header"),
        pytest.param({"Authorization": "Bearer "}, "absent", "session-token-missing", id="a bearer without a token"),
        pytest.param({"Authorization": "Basic dTpw"}, "absent", "session-token-missing", id="another scheme"),
        pytest.param({"Cookie": "theme=dark"}, "absent", "session-token-missing", id="other cookies"),
        pytest.param({"Cookie": "__session="}, "absent", "session-token-missing", id="an empty cookie"),
        pytest.param(bearer("garbage"), "rejected", "token-invalid", id="garbage"),
        pytest.param(bearer("x" * 8193), "rejected", "token-too-large", id="huge"),
        pytest.param(bearer("ak_machine"), "rejected", "token-type-not-supported", id="an API key"),
        pytest.param(
            bearer(token(key=private_key("forger"))), "rejected", "token-invalid-signature", id="a forged signature"
        ),
        pytest.param(
            bearer(token(claims(azp="https://evil.example.com"))),
            "rejected",
            "token-invalid-authorized-parties",
            id="a token for another origin",
        ),
    ],
)
async def test_what_proves_nothing_is_recorded_without_an_identity(
    client: httpx.AsyncClient, events: EventFile, headers: dict[str, str], auth: str, reason: str
) -> None:
    response = await client.delete(SESSION, headers=headers)
    assert (response.status_code, response.json()["recorded"]) == (200, True)
    event = events.one()
    assert (event["auth"], event["reason"]) == (auth, reason)
    assert {key: event[key] for key in NOBODY} == NOBODY
    assert event["dedupe_key"] == event["event_id"] == response.json()["event_id"]


async def test_a_binary_token_is_rejected(client: httpx.AsyncClient, events: EventFile) -> None:
    response = await client.delete(SESSION, headers=[(b"Authorization", b"Bearer \x00\xff\xfe.\r.\x80")])
    assert response.status_code == 200
    assert events.one()["auth"] == "rejected"


async def test_a_cookie_is_as_good_as_a_header(client: httpx.AsyncClient, events: EventFile) -> None:
    await client.delete(SESSION, headers={"Cookie": f'a,b="1; __session_1a2B3c4D={token()}'})
    assert events.one()["auth"] == "verified"


async def test_the_header_goes_before_the_cookie(client: httpx.AsyncClient, events: EventFile) -> None:
    await client.delete(SESSION, headers=bearer("garbage") | {"Cookie": f"__session={token()}"})
    assert events.one()["auth"] == "rejected"


@pytest.mark.parametrize("order", [1, -1], ids=["bad one first", "good one first"])
async def test_of_two_authorization_headers_the_better_one_counts(
    client: httpx.AsyncClient, events: EventFile, order: int
) -> None:
    headers = [("Authorization", "Bearer garbage"), ("Authorization", f"Bearer {token()}")][::order]
    response = await client.delete(SESSION, headers=headers)
    assert response.status_code == 200
    assert events.one()["auth"] == "verified"


async def test_a_request_with_a_body_is_a_logout_like_any_other(client: httpx.AsyncClient, events: EventFile) -> None:
    response = await client.request("DELETE", SESSION, headers=bearer(token()), json={"reason": "x" * 100_000})
    assert response.status_code == 200
    assert events.one()["auth"] == "verified"


async def test_the_body_of_a_request_is_not_waited_for(settings: Callable[..., Settings], events: EventFile) -> None:
    messages = await call(settings(), receive=asyncio.Event().wait)
    assert messages[0]["status"] == 200
    assert events.one()["auth"] == "absent"


async def test_repeating_the_call_is_two_events_that_share_the_dedupe_key(
    client: httpx.AsyncClient, events: EventFile
) -> None:
    answers = [(await client.delete(SESSION, headers=bearer(of))).json() for of in (token(), expired())]
    first, second = events.new()
    assert first["dedupe_key"] == second["dedupe_key"] == "user_logout:sess_2abcDEF"
    assert [first["event_id"], second["event_id"]] == [answer["event_id"] for answer in answers]
    assert first["event_id"] != second["event_id"]


async def test_a_hundred_logouts_at_once_are_a_hundred_lines(client: httpx.AsyncClient, events: EventFile) -> None:
    answers = await asyncio.gather(*(client.delete(SESSION) for _ in range(100)))
    assert {answer.json()["event_id"] for answer in answers} == {event["event_id"] for event in events.new()}


async def test_the_token_is_nowhere_in_the_line(client: httpx.AsyncClient, events: EventFile) -> None:
    sent = token()
    await client.delete(SESSION, headers=bearer(sent) | {"Cookie": f"__session={sent}"})
    line = events.path.read_text(encoding="utf-8")
    assert not [part for part in sent.split(".") if part in line]


# --- The response ----------------------------------------------------------------------------------------------------


async def test_the_response_is_json_that_nobody_stores(client: httpx.AsyncClient) -> None:
    response = await client.delete(SESSION, headers=bearer(token()))
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-content-type-options"] == "nosniff"


async def test_the_browsers_storage_is_left_alone(client: httpx.AsyncClient) -> None:
    """``Clear-Site-Data`` stalls Chrome and does not reach the frontend's origin."""
    assert "clear-site-data" not in (await client.delete(SESSION)).headers


@pytest.mark.parametrize(
    ("cookies", "expired"),
    [
        pytest.param("__session=a.b.c", ["__session"], id="one"),
        pytest.param("__session=a; __session_1a2B=b; theme=dark", ["__session", "__session_1a2B"], id="with a suffix"),
        pytest.param("__session=a; __session=b", ["__session"], id="one name twice"),
        pytest.param("__session=", ["__session"], id="an empty one"),
        pytest.param("theme=dark; __client_uat=1", [], id="others"),
    ],
)
async def test_each_session_cookie_is_expired_once(
    client: httpx.AsyncClient, cookies: str, expired: Sequence[str]
) -> None:
    response = await client.delete(SESSION, headers={"Cookie": cookies})
    assert response.headers.get_list("set-cookie") == [f"{name}=; Max-Age=0; Path=/" for name in expired]


async def test_a_request_without_cookies_gets_none(client: httpx.AsyncClient) -> None:
    assert "set-cookie" not in (await client.delete(SESSION, headers=bearer(token()))).headers


async def test_a_session_cookie_beside_a_bearer_header_is_expired_too(client: httpx.AsyncClient) -> None:
    response = await client.delete(SESSION, headers=bearer(token()) | {"Cookie": "__session=a.b.c"})
    assert response.headers.get_list("set-cookie") == ["__session=; Max-Age=0; Path=/"]


# --- What is around the request --------------------------------------------------------------------------------------


async def test_the_request_id_is_in_the_response_and_in_the_line(client: httpx.AsyncClient, events: EventFile) -> None:
    response = await client.delete(SESSION, headers={"X-Request-ID": "req-42"})
    assert response.headers["x-request-id"] == events.one()["request_id"] == "req-42"


async def test_a_request_id_that_cannot_be_used_is_replaced_in_both(
    client: httpx.AsyncClient, events: EventFile
) -> None:
    response = await client.delete(SESSION, headers={"X-Request-ID": "two words"})
    assert response.headers["x-request-id"] == events.one()["request_id"] != "two words"


async def test_the_trace_id_of_the_caller_is_recorded(client: httpx.AsyncClient, events: EventFile) -> None:
    await client.delete(SESSION, headers={"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"})
    assert events.one()["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(
    ("origin", "recorded"), [(ORIGIN, ORIGIN), ("https://evil.example.com", None), ("null", None), (None, None)]
)
async def test_only_an_allowed_origin_is_recorded(
    client: httpx.AsyncClient, events: EventFile, origin: str | None, recorded: str | None
) -> None:
    await client.delete(SESSION, headers={"Origin": origin} if origin else {})
    assert events.one()["origin"] == recorded


async def test_address_and_user_agent_are_not_recorded_by_default(client: httpx.AsyncClient, events: EventFile) -> None:
    await client.delete(SESSION, headers={"User-Agent": "curl"})
    assert {"client_ip", "user_agent"}.isdisjoint(events.one())


@pytest.mark.parametrize(
    ("host", "recorded"),
    [
        ("203.0.113.77", "203.0.113.0"),
        ("2001:db8:1234:5678::1", "2001:db8:1234::"),
        ("::ffff:203.0.113.77", "203.0.113.0"),
    ],
)
async def test_the_callers_network_is_recorded_where_asked_for(
    open_client: OpenClient, events: EventFile, host: str, recorded: str
) -> None:
    async with open_client(event_client_ip=True, peer=(host, 1)) as client:
        await client.delete(SESSION)
    assert events.one()["client_ip"] == recorded


async def test_a_caller_without_a_usable_address_has_none_in_the_line(
    open_client: OpenClient, events: EventFile
) -> None:
    async with open_client(event_client_ip=True, peer=("unknown, 10.0.0.1", 1)) as client:
        await client.delete(SESSION)
    assert "client_ip" not in events.one()


async def test_the_user_agent_is_recorded_where_asked_for(open_client: OpenClient, events: EventFile) -> None:
    async with open_client(event_user_agent=True) as client:
        await client.delete(SESSION, headers=[(b"User-Agent", b"curl/8 \xff")])
    assert events.one()["user_agent"] == "curl/8 ?"


# --- Flood control ---------------------------------------------------------------------------------------------------

BURST = 10
"""Calls that one client may make at once with ``flood_per_second=1``; in the tests no second passes."""


async def test_a_flood_is_answered_200_and_counted_in_one_summary(open_client: OpenClient, events: EventFile) -> None:
    async with open_client(flood_per_second=1) as client:
        answers = [await client.delete(SESSION) for _ in range(100)]
        lines = events.new()
    summary = events.one()
    assert {answer.status_code for answer in answers} == {200}
    assert BURST <= len(lines) < 100
    assert {line["event"] for line in lines} == {"user_logout"}
    assert (summary["event"], summary["count"]) == ("user_logout_suppressed", 100 - len(lines))


async def test_the_answer_to_a_suppressed_call_names_the_summary_that_counts_it(
    open_client: OpenClient, events: EventFile
) -> None:
    async with open_client(flood_per_second=1) as client:
        answers = [(await client.delete(SESSION)).json() for _ in range(100)]
    *lines, summary = events.new()
    recorded = [answer["event_id"] for answer in answers if answer["recorded"]]
    suppressed = [answer["event_id"] for answer in answers if not answer["recorded"]]
    assert recorded == [line["event_id"] for line in lines]
    assert suppressed == [summary["event_id"]] * summary["count"]


@pytest.mark.parametrize("headers", [{}, bearer("garbage"), bearer(token(key=private_key("forger")))])
async def test_what_proves_nothing_can_be_suppressed(
    open_client: OpenClient, events: EventFile, headers: dict[str, str]
) -> None:
    async with open_client(flood_per_second=1) as client:
        for _ in range(50):
            await client.delete(SESSION, headers=headers)
    assert events.new()[-1]["event"] == "user_logout_suppressed"


@pytest.mark.parametrize("proof", [token, expired], ids=["verified", "expired"])
async def test_who_is_proven_is_always_recorded(
    open_client: OpenClient, events: EventFile, proof: Callable[[], str]
) -> None:
    async with open_client(flood_per_second=1) as client:
        flood = [(await client.delete(SESSION)).json()["recorded"] for _ in range(50)]
        proven = [(await client.delete(SESSION, headers=bearer(proof()))).json()["recorded"] for _ in range(50)]
    assert not all(flood)
    assert all(proven)
    assert len([line for line in events.new() if line["user_id"]]) == 50


async def test_who_is_proven_takes_nothing_from_a_limit(open_client: OpenClient, events: EventFile) -> None:
    async with open_client(flood_per_second=1) as client:
        for _ in range(100):
            await client.delete(SESSION, headers=bearer(token()))
        events.new()
        answers = [(await client.delete(SESSION)).json()["recorded"] for _ in range(BURST)]
    assert all(answers)


async def test_one_clients_flood_leaves_room_for_another(settings: Callable[..., Settings], events: EventFile) -> None:
    async with LifespanManager(create_app(settings(flood_per_second=1))) as manager:

        async def logout(host: str) -> bool:
            transport = httpx.ASGITransport(manager.app, client=(host, 1))
            async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
                recorded: bool = (await client.delete(SESSION)).json()["recorded"]
                return recorded

        flood = [await logout("203.0.113.77") for _ in range(100)]
        other = await logout("198.51.100.1")
    assert (flood[-1], other) == (False, True)
    assert events.new()[-1]["event"] == "user_logout_suppressed"


async def test_the_session_cookie_of_a_suppressed_call_is_expired_all_the_same(open_client: OpenClient) -> None:
    async with open_client(flood_per_second=1) as client:
        for _ in range(50):
            response = await client.delete(SESSION, headers={"Cookie": "__session=a.b.c"})
    assert response.json()["recorded"] is False
    assert response.headers.get_list("set-cookie") == ["__session=; Max-Age=0; Path=/"]


# --- What is promised when things fail -------------------------------------------------------------------------------


class FakeRecorder:
    """Says what it was told to say, or raises it."""

    def __init__(self, outcome: bool | Exception) -> None:
        self._outcome = outcome

    async def record(self, event: Event) -> bool:
        del event
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


class BrokenVerifier:
    """Breaks its promise never to raise."""

    async def verify(self, tokens: Sequence[bytes]) -> Verdict:
        raise ValueError(tokens)


@asynccontextmanager
async def endpoint(
    *, recorder: Any, verifier: Any = None, store: RevocationStore | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """The endpoint alone, over parts that fail."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[dict[str, Any]]:
        flood = FloodControl(1000, recorder.record, Metrics())
        yield {
            "verifier": verifier or Verifier(PemKey(pem())),
            "recorder": recorder,
            "flood": flood,
            "revocations": RevocationList(MemoryStore() if store is None else store),
        }

    nobody = ClientAddress(())
    facts = RequestFacts(origins=(), client_address=nobody, with_client_ip=False, with_user_agent=False)
    logout = Logout(nobody, facts)
    app = Starlette(
        routes=[Route(SESSION, logout, methods=["DELETE"])],
        middleware=[Middleware(ResponseHeaders)],
        lifespan=lifespan,
    )
    async with (
        LifespanManager(app) as manager,
        httpx.AsyncClient(transport=httpx.ASGITransport(manager.app), base_url="http://service") as client,
    ):
        yield client


class Noting:
    """A recorder and a revocation store that note what is done, in which order; the store breaks."""

    problem = None

    def __init__(self) -> None:
        self.done: list[str] = []

    async def record(self, event: Event) -> bool:
        await asyncio.sleep(0)
        self.done.append(event.name)
        return True

    async def add(self, session_ids: Sequence[str], *, at: float, seconds: int) -> None:
        del at, seconds
        self.done += session_ids
        raise ValueError("eyJ.secret")

    async def find(self, session_id: str, *, within: float | None = None) -> float | None:
        raise AssertionError(session_id, within)

    async def claim(self, session_id: str, *, seconds: int, within: float | None = None) -> bool:
        raise AssertionError(session_id, seconds, within)

    async def close(self) -> None:
        raise AssertionError


async def test_a_session_is_revoked_after_it_was_recorded_and_a_broken_list_is_no_hindrance(
    caplog: pytest.LogCaptureFixture,
) -> None:
    noting = Noting()
    async with endpoint(recorder=noting, store=noting) as client:
        response = await client.delete(SESSION, headers={"Cookie": f"__session={token()}"})
    assert noting.done == ["user_logout", "sess_2abcDEF"]
    assert (response.status_code, response.json()["recorded"]) == (200, True)
    assert response.headers.get_list("set-cookie") == ["__session=; Max-Age=0; Path=/"]
    assert "was not put on the revocation list: ValueError" in caplog.text
    assert "eyJ.secret" not in caplog.text


@pytest.mark.parametrize(
    "sent", [None, "a.b.c", token(claims(now=time.time() - 3600))], ids=["no", "no good", "expired"]
)
async def test_a_token_that_is_not_verified_revokes_nothing(sent: str | None) -> None:
    noting = Noting()
    async with endpoint(recorder=noting, store=noting) as client:
        await client.delete(SESSION, headers=bearer(sent) if sent else {})
    assert noting.done == ["user_logout"]


FAILURES = [
    pytest.param({"recorder": FakeRecorder(outcome=False)}, id="the log takes nothing"),
    pytest.param({"recorder": FakeRecorder(ValueError("eyJ.secret"))}, id="the recorder breaks"),
    pytest.param({"recorder": FakeRecorder(outcome=True), "verifier": BrokenVerifier()}, id="the verifier breaks"),
]


@pytest.mark.parametrize("parts", FAILURES)
async def test_a_logout_that_is_not_recorded_is_200_and_says_so(parts: dict[str, Any]) -> None:
    async with endpoint(**parts) as client:
        response = await client.delete(SESSION, headers=bearer(token()))
    assert response.status_code == 200
    answer = response.json()
    assert (answer["success"], answer["recorded"]) == (True, False)
    assert answer["event_id"]


@pytest.mark.parametrize("parts", FAILURES)
async def test_the_cookie_of_a_logout_that_is_not_recorded_is_expired_all_the_same(parts: dict[str, Any]) -> None:
    async with endpoint(**parts) as client:
        response = await client.delete(SESSION, headers={"Cookie": f"__session={token()}"})
    assert response.headers.get_list("set-cookie") == ["__session=; Max-Age=0; Path=/"]


@pytest.mark.parametrize("parts", FAILURES[1:])
async def test_what_broke_is_said_once_without_what_was_sent(
    parts: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    sent = token()
    caplog.set_level(logging.DEBUG, logger="service")
    async with endpoint(**parts) as client:
        await client.delete(SESSION, headers=bearer(sent))
    (message,) = caplog.messages
    assert message.startswith("a logout was not recorded: ValueError in test_logout.py:")
    assert not [part for part in [*sent.split("."), "secret"] if part in caplog.text]


async def test_a_full_disk_is_a_200_and_the_event_is_in_the_spool(
    open_client: OpenClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "ANSWER_WITHIN", TIMEOUT)  # the disk of a slow machine has all the time it needs
    async with open_client(event_log="/dev/full") as client:
        answers = [(await client.delete(SESSION)) for _ in range(3)]
    assert [(answer.status_code, answer.json()["recorded"]) for answer in answers] == [(200, True)] * 3
    assert [event["event_id"] for event in spooled(tmp_path)] == [answer.json()["event_id"] for answer in answers]


def spooled(tmp_path: Path) -> list[dict[str, Any]]:
    """The events that wait in the spool of ``settings``."""
    return read_lines(b"".join(contents(tmp_path / "spool")).splitlines(keepends=True))


async def test_a_full_disk_under_log_and_spool_is_a_200_that_says_not_recorded(
    open_client: OpenClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A spool in a place that is no directory stands for one on the same full disk."""
    (tmp_path / "file").touch()
    async with open_client(event_log="/dev/full", event_spool_dir=str(tmp_path / "file")) as client:
        answers = [(await client.delete(SESSION)) for _ in range(3)]
    assert [(answer.status_code, answer.json()["recorded"]) for answer in answers] == [(200, False)] * 3
    assert sum("events are being lost" in message for message in caplog.messages) == 1


async def test_hostile_requests_leave_nothing_in_the_diagnostics(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    caplog.clear()
    for value in (b"Bearer \xff.\xff.\xff", b"Bearer e30.e30.e30", b"Bearer " + b"." * 9000, b"\x00"):
        await client.delete(SESSION, headers=[(b"Authorization", value), (b"Cookie", b"__session=\xff")])
    assert [record.message for record in caplog.records if record.name.startswith("service")] == []


async def call(settings: Settings, *, receive: Any, watch: Callable[[Message], None] = lambda _: None) -> list[Message]:
    """Call the application as a server does, and watch what it sends."""
    messages: list[Message] = []

    async def send(message: Message) -> None:
        watch(message)
        messages.append(message)

    scope: dict[str, Any] = {
        "type": "http",
        "method": "DELETE",
        "path": SESSION,
        "headers": [],
        "query_string": b"",
        "client": None,
    }
    async with LifespanManager(create_app(settings)) as manager:
        await manager.app(scope, receive, send)
    return messages


async def test_the_line_is_written_before_the_response_is_sent(
    settings: Callable[..., Settings], events: EventFile
) -> None:
    written: list[tuple[str, int]] = []
    await call(
        settings(),
        receive=asyncio.Event().wait,
        watch=lambda message: written.append((message["type"], len(events.new()))),
    )
    assert written == [("http.response.start", 1), ("http.response.body", 0)]

"""Signing out everywhere. Clerk is the sandbox's stand-in, reached through the real SDK and HTTP client."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from service.clerk.backend_api import backend_api
from service.clerk.errors import ClerkApiError, ClerkKeyRejectedError, ClerkRateLimitedError
from service.clerk.keys import PemKey
from service.clerk.verifier import Verifier
from service.endpoints import sessions as sessions_module
from service.endpoints.sessions import sessions
from service.endpoints.sign_out_everywhere import TRIES, RecordedSignOut, SignOutLimit
from service.endpoints.single_flight import SingleFlight
from service.events.request import ClientAddress, RequestFacts, read_head
from service.events.types import UserLogoutEverywhere
from service.revocations.revocation_list import MemoryStore, RevocationList
from service.telemetry.diagnostics import LogThrottle
from tests.clerk.test_bad_input import A_FEW
from tests.clerk.test_sign_out import OWN, FakeClerk
from tests.conftest import OpenClient
from tests.support.clerk import ALICE, SECRET_KEY, URL, StandIn, ended_in, expired_cookies, revokes, token_of
from tests.support.lines import EventFile
from tests.support.signing import ISSUER, ORIGIN, claims, pem, token

SESSIONS = "/v1/auth/sessions"
ERROR = {"errors": [{"message": "secret text", "long_message": "secret text", "code": "some_code"}]}


def bearer(of: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {of}"}


@pytest.fixture
def clerk() -> Iterator[StandIn]:
    clerk = StandIn()
    with clerk.on_the_wire():
        yield clerk


@pytest.fixture
async def service(
    clerk: StandIn,  # noqa: ARG001 - stands there before the service starts
    open_client: OpenClient,
) -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(clerk_secret_key=SECRET_KEY) as service:
        yield service


def counts(answer: dict[str, Any]) -> tuple[bool, int, int]:
    return answer["success"], answer["revoked_sessions"], answer["failed_sessions"]


class Memory:
    """A recorder that keeps what it is given, or does what it was told to."""

    def __init__(self, outcome: bool | Exception = True) -> None:  # noqa: FBT002 - the good outcome
        self.events: list[UserLogoutEverywhere] = []
        self._outcome = outcome

    async def record(self, event: UserLogoutEverywhere) -> bool:
        self.events.append(event)
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


@asynccontextmanager
async def alone(
    api: object,
    *,
    recorder: Memory | None = None,
    revocations: object = None,
    max_age: int | None = None,
    clock: Callable[[], int] = time.monotonic_ns,
) -> AsyncIterator[httpx.AsyncClient]:
    """The endpoint without the rest of the application."""
    sign_outs = SingleFlight[RecordedSignOut]()
    state = {
        "resources": SimpleNamespace(
            clerk=api,
            session_cookies=None,
            settings=SimpleNamespace(reverification_max_age_minutes=max_age),
            verifier=Verifier(PemKey(pem()), authorized_parties=[ORIGIN], issuers=[ISSUER]),
            recorder=recorder or Memory(),
            revocations=revocations or RevocationList(MemoryStore()),
            request_facts=RequestFacts(
                origins=(), client_address=ClientAddress(()), with_client_ip=False, with_user_agent=False
            ),
        ),
        "sign_outs": sign_outs,
        "sign_out_limit": SignOutLimit(clock),
        "throttle": LogThrottle(),
    }

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"] = state | {"head": read_head(scope)}
        response = await sessions(Request(scope))
        await response(scope, receive, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
        yield client
    await sign_outs.close()


class HeldClerk(FakeClerk):
    """Answers no list before it is told to."""

    def __init__(self, *active: str) -> None:
        super().__init__(*active)
        self.asked, self.held = asyncio.Event(), asyncio.Event()

    async def alive_sessions(self, user_id: str) -> list[str]:
        self.asked.set()
        await self.held.wait()
        return await super().alive_sessions(user_id)


MINE = token(claims(sub=ALICE, sid=OWN, exp=4_000_000_000))
"""A token of the fake's own session."""

# --- It works --------------------------------------------------------------------------------------------------------


async def test_all_sessions_are_ended_counted_and_recorded(
    service: httpx.AsyncClient, clerk: StandIn, events: EventFile
) -> None:
    clerk.sign_in(user_id="user_bob")
    *_, own = clerk.sign_in(3)
    response = await service.delete(SESSIONS, headers=bearer(token_of(own)) | {"Origin": ORIGIN})
    event = events.one()
    assert response.status_code == 200
    assert response.json() == {
        "success": True,
        "message": "Logged out from all devices successfully",
        "revoked_sessions": 3,
        "failed_sessions": 0,
        "event_id": event["event_id"],
        "recorded": True,
    }
    assert clerk.alive() == []
    assert len(clerk.alive("user_bob")) == 1
    assert (event["event"], event["scope"]) == ("user_logout_everywhere", "all")
    assert (event["revoked_sessions"], event["failed_sessions"]) == (3, 0)
    assert (event["auth"], event["user_id"], event["session_id"], event["origin"]) == (
        "verified",
        ALICE,
        own.id,
        ORIGIN,
    )
    assert event["request_id"] == response.headers["x-request-id"]
    assert event["authorized_party"] == ORIGIN
    assert event["token_issued_at"] <= event["timestamp"]


@pytest.mark.parametrize(("required", "status"), [(True, 401), (False, 200)])
async def test_a_token_without_azp_signs_out_everywhere_where_that_is_allowed(
    clerk: StandIn, open_client: OpenClient, required: bool, status: int
) -> None:
    (own,) = clerk.sign_in()
    async with open_client(clerk_secret_key=SECRET_KEY, clerk_azp_required=required) as service:
        response = await service.delete(SESSIONS, headers=bearer(token_of(own, azp=None)))
    assert response.status_code == status


async def test_the_others_are_ended_where_they_are_meant(
    service: httpx.AsyncClient, clerk: StandIn, events: EventFile
) -> None:
    *_, own = clerk.sign_in(3)
    cookie = {"Cookie": f"__session={token_of(own)}"}
    response = await service.delete(SESSIONS, params={"scope": "others"}, headers=cookie)
    assert response.status_code == 200
    assert counts(response.json()) == (True, 2, 0)
    assert response.json()["message"] == "Logged out from all other devices successfully"
    assert clerk.alive() == [own.id]
    assert events.one()["scope"] == "others"
    assert "set-cookie" not in response.headers


@pytest.mark.parametrize("scope", ["all", "others"])
async def test_sessions_with_open_tasks_are_ended_too(service: httpx.AsyncClient, clerk: StandIn, scope: str) -> None:
    pending = [clerk.instance.sign_in(ALICE, status="pending") for _ in range(2)]
    (own,) = clerk.sign_in()
    response = await service.delete(SESSIONS, params={"scope": scope}, headers=bearer(token_of(own)))
    assert (response.status_code, counts(response.json())) == (200, (True, 3 if scope == "all" else 2, 0))
    assert {session.status for session in pending} == {"revoked"}


async def test_a_pending_session_may_sign_out_everywhere(service: httpx.AsyncClient, clerk: StandIn) -> None:
    clerk.sign_in()
    own = clerk.instance.sign_in(ALICE, status="pending")
    response = await service.delete(SESSIONS, headers=bearer(token_of(own, sts="pending")))
    assert (response.status_code, counts(response.json())) == (200, (True, 2, 0))
    assert own.status == "revoked"


async def test_the_session_cookies_are_expired(service: httpx.AsyncClient, clerk: StandIn) -> None:
    (own,) = clerk.sign_in()
    cookie = {"Cookie": f"__session=a; __session_1a2B={token_of(own)}"}
    response = await service.delete(SESSIONS, headers=cookie)
    assert response.headers.get_list("set-cookie") == expired_cookies("__session", "__session_1a2B")


async def test_an_impersonator_is_recorded(service: httpx.AsyncClient, clerk: StandIn, events: EventFile) -> None:
    (own,) = clerk.sign_in()
    await service.delete(SESSIONS, headers=bearer(token_of(own, act={"sub": "user_support"})))
    event = events.one()
    assert (event["actor_id"], event["initiated_by"]) == ("user_support", "admin")


async def test_repeating_it_ends_nothing_more_and_says_so(
    service: httpx.AsyncClient, clerk: StandIn, events: EventFile
) -> None:
    *_, own = clerk.sign_in(3)
    answers = [await service.delete(SESSIONS, headers=bearer(token_of(own))) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert [counts(answer.json()) for answer in answers] == [(True, 3, 0), (True, 0, 0)]
    first, second = events.new()
    assert first["dedupe_key"] != second["dedupe_key"]


async def test_where_one_has_just_ended_it_counts_nowhere(service: httpx.AsyncClient, clerk: StandIn) -> None:
    gone, own = clerk.sign_in(2)

    def ends_first(request: httpx.Request) -> None:
        if revokes(request):
            clerk.instance.end(gone, "removed")

    clerk.trouble = ends_first
    response = await service.delete(SESSIONS, headers=bearer(token_of(own)))
    assert response.status_code == 200
    assert counts(response.json()) == (True, 1, 0)


# --- Who may not -----------------------------------------------------------------------------------------------------


@pytest.fixture
async def without_clerk() -> AsyncIterator[httpx.AsyncClient]:
    """The endpoint with an API that fails the test when it is used."""
    async with alone(object()) as client:
        yield client


async def test_a_token_that_is_not_verified_gets_401_and_clerk_no_call(
    without_clerk: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="service")
    for vector in A_FEW:
        if vector.auth == "verified":
            continue
        response = await without_clerk.delete(SESSIONS, headers=list(vector.headers))
        assert response.status_code == 401, vector.name
        body = response.json()
        assert (body["success"], body["reason"]) == (False, vector.reason), vector.name
        challenge = f'Bearer error="invalid_token", error_description="{vector.reason}"'
        assert response.headers["www-authenticate"] == ("Bearer" if vector.auth == "absent" else challenge)
        assert "set-cookie" not in response.headers
    assert caplog.records == []


async def test_without_keys_nobody_is_verified_and_clerk_gets_no_call(clerk: StandIn, open_client: OpenClient) -> None:
    (own,) = clerk.sign_in()
    clerk.trouble = lambda _: httpx.Response(500)
    async with open_client(clerk_jwt_key=None, clerk_secret_key=SECRET_KEY) as service:
        response = await service.delete(SESSIONS, headers=bearer(token_of(own)))
    assert (response.status_code, response.json()["reason"]) == (503, "jwk-failed-to-load")
    assert response.headers["retry-after"] == "30"
    assert set(clerk.calls) == {"GET /v1/jwks"}


async def test_without_a_secret_key_it_says_what_is_missing(client: httpx.AsyncClient, events: EventFile) -> None:
    for headers in ({}, bearer(token())):
        response = await client.delete(SESSIONS, params={"scope": "x"}, headers=headers)
        assert response.status_code == 501
        assert response.json()["success"] is False
        assert "CLERK_SECRET_KEY" in response.json()["message"]
    assert events.new() == []


@pytest.mark.parametrize(
    "query",
    ["scope=", "scope=mine", "scope=ALL", "scope=all&scope=all", "scope=all&scope=others", "scope=%FF", "scope"],
)
async def test_another_scope_is_refused_with_the_allowed_ones(without_clerk: httpx.AsyncClient, query: str) -> None:
    response = await without_clerk.delete(f"{SESSIONS}?{query}", headers=bearer(MINE))
    assert response.status_code == 400
    assert response.json() == {
        "success": False,
        "message": "scope must be one of: all, others",
        "reason": "scope-invalid",
    }


@pytest.mark.parametrize(
    "query", ["Scope=others", "scop=others", "scope[]=others", "secret=x", "scope=others&x", "=others", "%FF=1"]
)
async def test_any_other_parameter_is_refused_and_not_repeated(without_clerk: httpx.AsyncClient, query: str) -> None:
    """Who mistypes `scope=others` must not be signed out as well."""
    response = await without_clerk.delete(f"{SESSIONS}?{query}", headers=bearer(MINE))
    assert response.status_code == 400
    assert response.json() == {
        "success": False,
        "message": "Unknown query parameter; only scope is supported",
        "reason": "parameter-unknown",
    }


async def test_who_is_not_verified_is_not_told_about_scopes(without_clerk: httpx.AsyncClient) -> None:
    assert (await without_clerk.delete(f"{SESSIONS}?scope=mine")).status_code == 401


async def test_another_method_is_refused(service: httpx.AsyncClient) -> None:
    response = await service.get(SESSIONS)
    assert (response.status_code, response.headers["allow"]) == (405, "DELETE")


# --- Reverification --------------------------------------------------------------------------------------------------


async def test_a_stale_proof_is_refused_in_clerks_form() -> None:
    async with alone(object(), max_age=10) as client:
        stale = token(claims(fva=[10, -1]))
        response = await client.delete(SESSIONS, headers=bearer(stale))
        wrong = await client.delete(SESSIONS, params={"scope": "mine"}, headers=bearer(stale))
    assert response.status_code == 403
    answer = response.json()
    assert (answer["success"], answer["reason"]) == (False, "reverification-needed")
    assert answer["message"] == "Reverification is required"
    assert answer["clerk_error"]["reason"] == "reverification-error"
    assert wrong.status_code == 400


async def test_a_fresh_proof_is_enough() -> None:
    async with alone(FakeClerk(OWN), max_age=10) as client:
        fresh = token(claims(sub=ALICE, sid=OWN, fva=[9, -1]))
        assert (await client.delete(SESSIONS, headers=bearer(fresh))).status_code == 200


async def test_without_a_limit_no_proof_is_asked_for() -> None:
    async with alone(FakeClerk(OWN)) as client:
        unproven = token(claims(sub=ALICE, sid=OWN, fva=None))
        assert (await client.delete(SESSIONS, headers=bearer(unproven))).status_code == 200


# --- Clerk in trouble ------------------------------------------------------------------------------------------------

GARBAGE = httpx.Response(200, content=b"{", headers={"Content-Type": "application/json"})
LIST_FAILS = [
    pytest.param(httpx.Response(401, json=ERROR), ("clerk-refuses-key", "5"), id="401"),
    pytest.param(httpx.Response(404, json=ERROR), ("clerk-unreachable", "5"), id="404"),
    pytest.param(httpx.Response(429, json=ERROR), ("clerk-rate-limited", "10"), id="429"),
    pytest.param(
        httpx.Response(429, json=ERROR, headers={"Retry-After": "7"}), ("clerk-rate-limited", "7"), id="429 and a time"
    ),
    pytest.param(httpx.Response(500, json=ERROR), ("clerk-unreachable", "5"), id="500"),
    pytest.param(GARBAGE, ("clerk-unreachable", "5"), id="garbage"),
    pytest.param(httpx.ConnectError("secret text"), ("clerk-unreachable", "5"), id="refused"),
]


@pytest.mark.parametrize(("trouble", "expected"), LIST_FAILS)
async def test_without_a_list_nothing_is_claimed_or_recorded(
    service: httpx.AsyncClient, clerk: StandIn, events: EventFile, trouble: Any, expected: tuple[str, str]
) -> None:
    *_, own = clerk.sign_in(3)
    clerk.trouble = lambda _: trouble
    response = await service.delete(SESSIONS, headers={"Cookie": f"__session={token_of(own)}"})
    problem = response.json()
    assert response.status_code == 503
    assert (problem["reason"], response.headers["retry-after"]) == expected
    assert counts(problem) == (False, 0, 0)
    assert {"event_id", "recorded"}.isdisjoint(problem)
    assert "secret text" not in response.text
    assert "set-cookie" not in response.headers
    assert clerk.calls == ["GET /v1/sessions"]
    assert events.new() == []


REVOCATIONS_FAIL = [
    pytest.param(httpx.Response(401, json=ERROR), (503, "clerk-refuses-key"), id="401"),
    pytest.param(httpx.Response(429, json=ERROR), (503, "clerk-rate-limited"), id="429"),
    pytest.param(httpx.Response(500, json=ERROR), (502, "sessions-left"), id="500"),
    pytest.param(GARBAGE, (502, "sessions-left"), id="garbage"),
]


@pytest.mark.parametrize(("trouble", "expected"), REVOCATIONS_FAIL)
async def test_what_fails_is_counted_and_a_repetition_ends_the_rest(
    service: httpx.AsyncClient, clerk: StandIn, trouble: httpx.Response | Exception, expected: tuple[int, str]
) -> None:
    sessions = clerk.sign_in(60)
    failing = {session.id for session in sessions[::2]}
    clerk.trouble = lambda request: trouble if ended_in(request) in failing else None
    sent = {"Cookie": f"__session={token_of(sessions[-1])}"}
    response = await service.delete(SESSIONS, headers=sent)
    problem, left = response.json(), clerk.alive()
    assert (response.status_code, problem["reason"]) == expected
    assert counts(problem) == (False, 60 - len(left), len(left))
    assert failing <= set(left)
    assert "set-cookie" not in response.headers
    clerk.trouble = lambda _: None
    again = await service.delete(SESSIONS, headers=sent)
    assert (again.status_code, counts(again.json())) == (200, (True, len(left), 0))
    assert clerk.alive() == []


async def test_a_partial_failure_is_recorded_with_both_counts(
    service: httpx.AsyncClient, clerk: StandIn, events: EventFile
) -> None:
    failing, own = clerk.sign_in(2)
    clerk.trouble = lambda request: httpx.Response(500) if ended_in(request) == failing.id else None
    response = await service.delete(SESSIONS, headers=bearer(token_of(own)))
    event = events.one()
    assert (event["revoked_sessions"], event["failed_sessions"]) == (0, 2)
    assert (response.json()["event_id"], response.json()["recorded"]) == (event["event_id"], True)


async def test_where_clerk_dies_in_the_middle_what_happened_is_said(
    service: httpx.AsyncClient, clerk: StandIn, events: EventFile
) -> None:
    *_, own = clerk.sign_in(60)
    clerk.trouble = lambda _: httpx.ConnectError("refused") if len(clerk.calls) > 30 else None
    response = await service.delete(SESSIONS, headers=bearer(token_of(own)))
    left = len(clerk.alive())
    assert (response.status_code, response.json()["reason"]) == (503, "clerk-unreachable")
    assert counts(response.json()) == (False, 60 - left, left)
    assert events.one()["revoked_sessions"] == 60 - left == 29


# --- Clerk hangs -----------------------------------------------------------------------------------------------------


async def test_where_clerk_hangs_the_deadline_ends_it_truthfully(
    clerk: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions_module, "SIGN_OUT_TIMEOUT", 1.0)
    devices = clerk.sign_in(4)
    clerk.hangs = lambda request: devices[0].id in request.url.path
    recorder = Memory()
    async with backend_api(URL, SECRET_KEY) as api, alone(api, recorder=recorder) as client:
        response = await client.delete(SESSIONS, headers=bearer(token_of(devices[-1])))
    assert (response.status_code, response.json()["reason"]) == (503, "clerk-timeout")
    assert response.headers["retry-after"] == "5"
    left = len(clerk.alive())
    assert counts(response.json()) == (False, 4 - left, left)
    (event,) = recorder.events
    assert (event.revoked_sessions, event.failed_sessions) == (4 - left, left)


# --- The caller goes, or calls too often -----------------------------------------------------------------------------


async def test_a_caller_who_goes_does_not_stop_it() -> None:
    hanging, recorder = FakeClerk(OWN, "sess_1"), Memory()
    hanging.hangs = {"sess_1"}
    async with alone(hanging, recorder=recorder) as client:
        caller = asyncio.create_task(client.delete(SESSIONS, headers=bearer(MINE)))
        await hanging.hanging.wait()
        caller.cancel()
        await asyncio.wait({caller})
    # The end of the service cuts it short, and what has happened until then is recorded.
    (event,) = recorder.events
    assert (event.revoked_sessions, event.failed_sessions) == (0, 2)


async def test_the_same_call_at_the_same_time_is_one_sign_out(
    service: httpx.AsyncClient, clerk: StandIn, events: EventFile
) -> None:
    *_, own = clerk.sign_in(3)
    answers = await asyncio.gather(*(service.delete(SESSIONS, headers=bearer(token_of(own))) for _ in range(20)))
    assert [answer.status_code for answer in answers] == [200] * 20
    event = events.one()
    assert {answer.json()["event_id"] for answer in answers} == {event["event_id"]}
    assert clerk.calls.count("GET /v1/sessions") == 2


@pytest.mark.parametrize(("first", "then"), [("others", "all"), ("all", "others")])
async def test_the_other_scope_is_a_sign_out_of_its_own(first: str, then: str) -> None:
    """Who signs out everywhere must not be answered with what was done for who did not."""
    held = HeldClerk(OWN, "sess_1")
    async with alone(held) as client:
        calls = []
        for scope in (first, then):
            call = client.delete(SESSIONS, params={"scope": scope}, headers=bearer(MINE))
            calls.append(asyncio.create_task(call))
            await held.asked.wait()
        held.held.set()
        answers = [(await call).json() for call in calls]
    assert [answer["success"] for answer in answers] == [True, True]
    assert len({answer["event_id"] for answer in answers}) == 2
    assert sum(answer["revoked_sessions"] for answer in answers) == 2
    assert not held.active


@pytest.mark.parametrize("scope", ["others", "all"])
async def test_another_call_of_the_same_user_waits_but_not_for_ever(
    scope: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = FakeClerk(OWN, "sess_1")
    hanging.hangs = {"sess_1"}
    monkeypatch.setattr(sessions_module, "MAX_WAIT", 0.01)
    async with alone(hanging) as client:
        caller = asyncio.create_task(client.delete(SESSIONS, headers=bearer(MINE)))
        await hanging.hanging.wait()
        other = token(claims(sub=ALICE, sid="sess_2"))
        response = await client.delete(SESSIONS, params={"scope": scope}, headers=bearer(other))
        await client.delete(SESSIONS, params={"scope": scope}, headers=bearer(other))
        caller.cancel()
    assert (response.status_code, response.json()["reason"]) == (503, "busy")
    assert response.headers["retry-after"] == "5"
    assert caplog.messages == ["a sign-out everywhere was turned away: too many are in progress"]


async def test_who_had_to_wait_has_only_the_rest_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first takes all of it; half of it would be enough for the second."""
    monkeypatch.setattr(sessions_module, "SIGN_OUT_TIMEOUT", 0.4)
    fake = HeldClerk(OWN, "sess_1")
    async with alone(fake) as client:
        first = asyncio.create_task(client.delete(SESSIONS, headers=bearer(MINE)))
        await fake.asked.wait()
        other = token(claims(sub=ALICE, sid="sess_2"))
        second = asyncio.create_task(client.delete(SESSIONS, headers=bearer(other)))
        assert (await first).json()["reason"] == "clerk-timeout"
        asyncio.get_running_loop().call_later(0.2, fake.held.set)
        assert (await second).json()["reason"] == "clerk-timeout"


# --- The limit of a user ----------------------------------------------------------------------------------------------

SECOND = 1_000_000_000


class Repeating:
    """Calls for one user, at times that the test sets."""

    def __init__(self) -> None:
        self.now = 0
        self.fake = FakeClerk(OWN)
        self.client: httpx.AsyncClient

    async def statuses(self, calls: int, *, of: str = MINE, scope: str = "others") -> list[int]:
        """Call one after the other, with a session that is left for the next call."""
        return [(await self.call(of=of, scope=scope)).status_code for _ in range(calls)]

    async def call(self, *, of: str = MINE, scope: str = "others") -> httpx.Response:
        return await self.client.delete(SESSIONS, params={"scope": scope}, headers=bearer(of))

    def fail(self, error: Exception | None) -> None:
        """Have all further lists fail, or none."""
        self.fake.list_trouble = {} if error is None else dict.fromkeys(range(999), error)


@pytest.fixture
async def repeating() -> AsyncIterator[Repeating]:
    repeating = Repeating()
    async with alone(repeating.fake, clock=lambda: repeating.now) as repeating.client:
        yield repeating


@pytest.mark.parametrize("scope", ["all", "others"])
async def test_a_sixth_in_a_minute_is_429_and_clerk_is_not_asked(repeating: Repeating, scope: str) -> None:
    repeating.fake.known = {OWN}
    assert await repeating.statuses(5, scope=scope) == [200] * 5
    lists = repeating.fake.lists
    response = await repeating.call(scope=scope)
    assert (response.status_code, response.headers["retry-after"]) == (429, "12")
    assert response.json() == {
        "success": False,
        "message": "Too many sign-outs of this user. Retry after the number of seconds in Retry-After",
        "reason": "too-many-requests",
    }
    assert "set-cookie" not in response.headers
    assert repeating.fake.lists == lists


async def test_who_waits_as_told_is_admitted_again(repeating: Repeating) -> None:
    await repeating.statuses(6)
    repeating.now += 12 * SECOND - 1
    assert await repeating.statuses(1) == [429]
    repeating.now += 1
    assert await repeating.statuses(2) == [200, 429]


async def test_the_limit_is_the_users_whatever_session_and_scope(repeating: Repeating) -> None:
    for number, scope in enumerate(("all", "others") * 3):
        other = token(claims(sub=ALICE, sid=f"sess_{number}"))
        repeating.fake.known = {f"sess_{number}"}
        assert await repeating.statuses(1, of=other, scope=scope) == [200 if number < 5 else 429]


async def test_joining_costs_nothing_and_a_refusal_is_shared() -> None:
    held = HeldClerk(OWN, "sess_1")
    async with alone(held) as client:
        for expected in [{200}] * 5 + [{429}]:
            calls = [asyncio.create_task(client.delete(SESSIONS, headers=bearer(MINE))) for _ in range(20)]
            held.held.set()
            assert {(await call).status_code for call in calls} == expected


@pytest.mark.parametrize(
    ("error", "status"), [(ClerkApiError("500"), 503), (ClerkRateLimitedError("429", 7), 503), (None, 502)], ids=str
)
async def test_what_fails_may_be_repeated_at_once_and_then_succeeds(
    repeating: Repeating, error: Exception | None, status: int
) -> None:
    assert await repeating.statuses(4) == [200] * 4
    repeating.fail(error)
    repeating.fake.active["sess_1"] = None
    repeating.fake.trouble = {"sess_1": ClerkApiError("500")}
    assert await repeating.statuses(5) == [status] * 5
    repeating.fail(None)
    repeating.fake.trouble = {}
    assert await repeating.statuses(1) == [200]


async def test_what_fails_for_ever_is_tried_once_a_second(repeating: Repeating) -> None:
    repeating.fail(ClerkRateLimitedError("429", 1))
    assert await repeating.statuses(TRIES + 3) == [503] * TRIES + [429] * 3
    response = await repeating.call()
    assert (response.status_code, response.headers["retry-after"]) == (429, "1")
    assert repeating.fake.lists == TRIES
    repeating.now += SECOND
    assert await repeating.statuses(2) == [503, 429]


async def test_a_client_that_heeds_retry_after_is_never_refused(repeating: Repeating) -> None:
    repeating.fail(ClerkApiError("500"))
    for _ in range(50):
        response = await repeating.call()
        assert response.status_code == 503
        repeating.now += int(response.headers["retry-after"]) * SECOND
    repeating.fail(None)
    assert await repeating.statuses(1) == [200]


async def test_a_refusal_is_counted_no_event_and_not_for_others(
    service: httpx.AsyncClient, clerk: StandIn, events: EventFile
) -> None:
    (own,), (bobs,) = clerk.sign_in(), clerk.sign_in(user_id="user_bob")
    for _ in range(7):
        await service.delete(SESSIONS, headers=bearer(token_of(own)))
    assert len(events.new()) == 5
    assert (await service.delete(SESSIONS, headers=bearer(token_of(bobs)))).status_code == 200
    text = (await service.get("/metrics")).text
    labels = 'method="DELETE",path="/v1/auth/sessions",status="429"'
    assert f"clerk_logout_request_duration_seconds_count{{{labels}}} 2.0" in text


# --- Record, then refuse, then answer --------------------------------------------------------------------------------


async def test_the_event_comes_first_then_the_list_then_the_answer() -> None:
    order: list[str] = []

    class Recording(Memory):
        async def record(self, event: UserLogoutEverywhere) -> bool:
            order.append("event")
            return await super().record(event)

    class Listing:
        async def revoke(self, session_ids: Sequence[str], *, token_lifetime: float) -> bool:
            assert set(session_ids) == {OWN, "sess_1"}
            assert token_lifetime == 3610
            order.append("list")
            return True

    mine = token(claims(sub=ALICE, sid=OWN) | {"exp": claims()["iat"] + 3600})
    async with alone(FakeClerk(OWN, "sess_1"), recorder=Recording(), revocations=Listing()) as client:
        response = await client.delete(SESSIONS, headers={"Cookie": f"__session={mine}"})
    assert order == ["event", "list"]
    assert "set-cookie" in response.headers


@pytest.mark.parametrize(
    ("scope", "listed"),
    [("all", {OWN: False, "sess_1": True, "sess_2": False}), ("others", {OWN: False, "sess_1": True})],
)
async def test_only_what_has_ended_is_put_on_the_list(scope: str, listed: dict[str, bool]) -> None:
    fake, revocations = FakeClerk("sess_1", "sess_2"), RevocationList(MemoryStore())
    fake.trouble = {"sess_2": ClerkApiError("500")}
    async with alone(fake, revocations=revocations) as client:
        await client.delete(SESSIONS, params={"scope": scope}, headers=bearer(MINE))
    on_it = {session_id: await revocations.signed_out_at(session_id) is not None for session_id in listed}
    assert on_it == listed


async def test_where_nothing_has_ended_the_list_stays_as_it_is() -> None:
    async with alone(FakeClerk(), revocations=object()) as client:
        response = await client.delete(SESSIONS, params={"scope": "others"}, headers=bearer(MINE))
    assert counts(response.json()) == (True, 0, 0)


class BrokenList:
    async def revoke(self, session_ids: Sequence[str], *, token_lifetime: float) -> bool:
        raise ValueError(session_ids, token_lifetime)


@pytest.mark.parametrize(
    ("parts", "recorded", "said"),
    [
        pytest.param({"recorder": Memory(outcome=False)}, False, [], id="the log takes nothing"),
        pytest.param(
            {"recorder": Memory(ValueError("eyJ.secret"))},
            False,
            ["a sign-out was not recorded: ValueError in test_sessions.py:"],
            id="the recorder breaks",
        ),
        pytest.param(
            {"revocations": BrokenList()},
            True,
            ["signed-out sessions were not put on the revocation list: ValueError in test_sessions.py:"],
            id="the revocation list breaks",
        ),
    ],
)
async def test_what_fails_after_clerk_leaves_a_success_a_success(
    parts: dict[str, Any], recorded: bool, said: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async with alone(FakeClerk(OWN), **parts) as client:
        response = await client.delete(SESSIONS, headers=bearer(MINE))
    assert (response.status_code, counts(response.json())) == (200, (True, 1, 0))
    assert response.json()["recorded"] is recorded
    assert len(caplog.messages) == len(said)
    assert all(message.startswith(start) for message, start in zip(caplog.messages, said, strict=True))


# --- What is said about it -------------------------------------------------------------------------------------------


async def test_what_goes_wrong_is_logged_once_a_minute_for_each_reason(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="service")
    fake = FakeClerk()
    async with alone(fake) as client:
        for error in (ClerkApiError("Clerk answered with status 500"), ClerkKeyRejectedError("401")) * 2:
            fake.list_trouble = dict.fromkeys(range(99), error)
            await client.delete(SESSIONS, headers=bearer(MINE))
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("WARNING", "a sign-out everywhere failed: Clerk answered with status 500"),
        ("WARNING", "a sign-out everywhere failed: 401"),
    ]


async def test_calls_to_clerk_are_counted(service: httpx.AsyncClient, clerk: StandIn) -> None:
    *_, own = clerk.sign_in(3)
    await service.delete(SESSIONS, headers=bearer(token_of(own)))
    text = (await service.get("/metrics")).text
    assert 'clerk_logout_clerk_requests_total{call="list",result="ok"} 2.0' in text
    assert 'clerk_logout_clerk_requests_total{call="revoke",result="ok"} 3.0' in text


async def test_no_secret_is_in_what_is_answered_or_recorded(
    service: httpx.AsyncClient, clerk: StandIn, events: EventFile, caplog: pytest.LogCaptureFixture
) -> None:
    *_, own = clerk.sign_in(2)
    sent = token_of(own)
    clerk.trouble = lambda request: httpx.Response(401, json=ERROR) if revokes(request) else None
    caplog.set_level(logging.DEBUG, logger="service")
    response = await service.delete(SESSIONS, headers=bearer(sent))
    out = response.text + str(response.headers) + events.path.read_text("utf-8") + caplog.text
    assert not [secret for secret in (SECRET_KEY, "secret text", *sent.split(".")) if secret in out]

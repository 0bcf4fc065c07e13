"""Signing out everywhere. Clerk is the sandbox's stand-in, reached through the real SDK and HTTP client, or a fake."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from service.clerk.errors import ClerkApiError, ClerkRateLimitedError
from service.endpoints import sign_outs
from service.endpoints.sign_outs import TRIES, SignOutLimit
from tests.clerk.test_bad_input import A_FEW, assert_nothing_of
from tests.clerk.test_sign_out import OWN, FakeClerk
from tests.conftest import OpenClient
from tests.endpoints.parts import SECRET_ERROR, Noting, assert_said, bearer
from tests.support.clerk import ALICE, SECRET_KEY, StandIn, ended_in, expired_cookies, revokes, token_of
from tests.support.lines import EventFile
from tests.support.signing import ORIGIN, claims, token

SESSIONS = "/v1/auth/sessions"
ERROR = {"errors": [{"message": "secret text", "long_message": "secret text", "code": "some_code"}]}


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
OTHER = token(claims(sub=ALICE, sid="sess_2", exp=4_000_000_000))

# --- It works --------------------------------------------------------------------------------------------------------


async def test_all_sessions_are_ended_counted_and_recorded(
    service: httpx.AsyncClient, clerk: StandIn, events: EventFile
) -> None:
    clerk.sign_in(user_id="user_bob")
    clerk.sign_in(2)
    own, has_open_tasks = (clerk.instance.sign_in(ALICE, status="pending") for _ in range(2))
    sent = token_of(own, sts="pending", act={"sub": "user_support"})
    cookie = {"Cookie": f"__session=a; __session_1a2B={sent}"}
    response = await service.delete(SESSIONS, headers=cookie | {"Origin": ORIGIN})
    event = events.one()
    assert response.status_code == 200
    assert response.json() == {
        "success": True,
        "message": "Logged out from all devices successfully",
        "revoked_sessions": 4,
        "failed_sessions": 0,
        "event_id": event["event_id"],
        "recorded": True,
    }
    assert response.headers.get_list("set-cookie") == expired_cookies("__session", "__session_1a2B")
    assert (clerk.alive(), len(clerk.alive("user_bob"))) == ([], 1)
    assert {own.status, has_open_tasks.status} == {"revoked"}
    expected = {
        "event": "user_logout_everywhere",
        "scope": "all",
        "revoked_sessions": 4,
        "failed_sessions": 0,
        "auth": "verified",
        "user_id": ALICE,
        "session_id": own.id,
        "actor_id": "user_support",
        "initiated_by": "admin",
        "origin": ORIGIN,
        "authorized_party": ORIGIN,
        "request_id": response.headers["x-request-id"],
    }
    assert event | expected == event
    assert event["token_issued_at"] <= event["timestamp"]


async def test_the_others_are_ended_where_they_are_meant(
    service: httpx.AsyncClient, clerk: StandIn, events: EventFile
) -> None:
    *_, own = clerk.sign_in(3)
    cookie = {"Cookie": f"__session={token_of(own)}"}
    response = await service.delete(SESSIONS, params={"scope": "others"}, headers=cookie)
    assert (response.status_code, counts(response.json())) == (200, (True, 2, 0))
    assert response.json()["message"] == "Logged out from all other devices successfully"
    assert clerk.alive() == [own.id]
    assert events.one()["scope"] == "others"
    assert "set-cookie" not in response.headers


@pytest.mark.parametrize(("required", "status"), [(True, 401), (False, 200)])
async def test_a_token_without_azp_counts_where_that_is_allowed(
    open_client: OpenClient, required: bool, status: int
) -> None:
    sent = bearer(token(claims(sub=ALICE, sid=OWN, azp=None)))
    async with open_client(resources={"clerk": FakeClerk(OWN)}, clerk_azp_required=required) as client:
        for method, path in (("GET", "/v1/auth/session"), ("DELETE", SESSIONS)):
            assert (await client.request(method, path, headers=sent)).status_code == status


# --- Who may not -----------------------------------------------------------------------------------------------------


@pytest.fixture
async def without_clerk(open_client: OpenClient) -> AsyncIterator[httpx.AsyncClient]:
    """A service with an API that fails the test when it is used."""
    async with open_client(resources={"clerk": object()}) as client:
        yield client


async def test_who_is_not_verified_gets_401_and_clerk_no_call(
    without_clerk: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor are they told of a mistake in the query."""
    caplog.set_level(logging.DEBUG, logger="service")
    caplog.clear()
    for vector in (vector for vector in A_FEW if vector.auth != "verified"):
        response = await without_clerk.delete(f"{SESSIONS}?scope=mine", headers=list(vector.headers))
        assert response.status_code == 401, vector.name
        body = response.json()
        assert (body["success"], body["reason"]) == (False, vector.reason), vector.name
        challenge = f'Bearer error="invalid_token", error_description="{vector.reason}"'
        assert response.headers["www-authenticate"] == ("Bearer" if vector.auth == "absent" else challenge)
        assert_nothing_of(vector.secrets, response.content + str(response.headers).encode())
        assert "set-cookie" not in response.headers
    assert caplog.records == []


async def test_without_a_secret_key_anybody_is_told_so(client: httpx.AsyncClient) -> None:
    response = await client.delete(SESSIONS, params={"scope": "x"})
    assert (response.status_code, response.json()["reason"]) == (501, "not-configured")


SCOPE_INVALID = {"reason": "scope-invalid", "message": "scope must be one of: all, others"}
UNKNOWN = {"reason": "parameter-unknown", "message": "Unknown query parameter; only scope is supported"}


@pytest.mark.parametrize(
    ("query", "refusal"),
    [
        *((query, SCOPE_INVALID) for query in ("scope=", "scope=all&scope=others", "scope=%FF")),
        *((query, UNKNOWN) for query in ("Scope=others", "scope=others&x")),
    ],
)
async def test_a_mistake_in_the_query_is_refused_and_not_repeated(
    without_clerk: httpx.AsyncClient, query: str, refusal: dict[str, str]
) -> None:
    """Who mistypes `scope=others` must not be signed out as well."""
    response = await without_clerk.delete(f"{SESSIONS}?{query}", headers=bearer(MINE))
    assert (response.status_code, response.json()) == (400, {"success": False, **refusal})


@pytest.mark.parametrize(
    ("max_age", "factor_ages", "status"), [(10, [10, -1], 403), (10, [9, -1], 200), (None, None, 200)]
)
async def test_a_proof_below_the_age_is_asked_for_where_it_is_set(
    open_client: OpenClient, max_age: int | None, factor_ages: list[int] | None, status: int
) -> None:
    """``tests/test_conformance.py`` shows the form of the refusal."""
    async with open_client(resources={"clerk": FakeClerk(OWN)}, reverification_max_age_minutes=max_age) as client:
        sent = bearer(token(claims(sub=ALICE, sid=OWN, fva=factor_ages)))
        assert (await client.delete(SESSIONS, headers=sent)).status_code == status


# --- Clerk in trouble ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trouble", "expected"),
    [
        (httpx.Response(401, json=ERROR), ("clerk-refuses-key", "5")),
        (httpx.Response(429, json=ERROR, headers={"Retry-After": "7"}), ("clerk-rate-limited", "7")),
        (httpx.ConnectError("secret text"), ("clerk-unreachable", "5")),
    ],
    ids=["401", "429", "refused"],
)
async def test_without_a_list_nothing_is_claimed_or_recorded(
    service: httpx.AsyncClient, clerk: StandIn, events: EventFile, trouble: Any, expected: tuple[str, str]
) -> None:
    *_, own = clerk.sign_in(3)
    clerk.trouble = lambda _: trouble
    response = await service.delete(SESSIONS, headers={"Cookie": f"__session={token_of(own)}"})
    problem = response.json()
    assert (response.status_code, problem["reason"], response.headers["retry-after"]) == (503, *expected)
    assert counts(problem) == (False, 0, 0)
    assert {"event_id", "recorded"}.isdisjoint(problem)
    assert "secret text" not in response.text
    assert "set-cookie" not in response.headers
    assert clerk.calls == ["GET /v1/sessions"]
    assert events.new() == []


@pytest.mark.parametrize(
    ("status", "expected"),
    [(401, (503, "clerk-refuses-key")), (429, (503, "clerk-rate-limited")), (500, (502, "sessions-left"))],
)
async def test_what_fails_is_counted_and_a_repetition_ends_the_rest(
    service: httpx.AsyncClient, clerk: StandIn, events: EventFile, status: int, expected: tuple[int, str]
) -> None:
    sessions = clerk.sign_in(60)
    failing = {session.id for session in sessions[::2]}
    clerk.trouble = lambda request: httpx.Response(status, json=ERROR) if ended_in(request) in failing else None
    sent = {"Cookie": f"__session={token_of(sessions[-1])}"}
    response = await service.delete(SESSIONS, headers=sent)
    problem, left, event = response.json(), clerk.alive(), events.one()
    assert (response.status_code, problem["reason"]) == expected
    assert counts(problem) == (False, 60 - len(left), len(left))
    assert (event["revoked_sessions"], event["failed_sessions"]) == (60 - len(left), len(left))
    assert (problem["event_id"], problem["recorded"]) == (event["event_id"], True)
    assert failing <= set(left)
    assert "set-cookie" not in response.headers
    clerk.trouble = lambda _: None
    again = await service.delete(SESSIONS, headers=sent)
    assert (again.status_code, counts(again.json())) == (200, (True, len(left), 0))
    assert clerk.alive() == []


async def test_where_clerk_hangs_the_deadline_ends_it_truthfully(
    service: httpx.AsyncClient, clerk: StandIn, events: EventFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_outs, "TIMEOUT", 1.0)
    devices = clerk.sign_in(4)
    clerk.hangs = lambda request: devices[0].id in request.url.path
    response = await service.delete(SESSIONS, headers=bearer(token_of(devices[-1])))
    assert (response.status_code, response.json()["reason"]) == (503, "clerk-timeout")
    assert response.headers["retry-after"] == "5"
    left, event = len(clerk.alive()), events.one()
    assert counts(response.json()) == (False, 4 - left, left)
    assert (event["revoked_sessions"], event["failed_sessions"]) == (4 - left, left)


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
    text = (await service.get("/metrics")).text
    assert 'clerk_logout_clerk_requests_total{call="list",result="ok"} 1.0' in text


# --- The caller goes, or others call ---------------------------------------------------------------------------------


async def test_a_caller_who_goes_does_not_stop_it(open_client: OpenClient, events: EventFile) -> None:
    hanging = FakeClerk(OWN, "sess_1")
    hanging.hangs = {"sess_1"}
    async with open_client(resources={"clerk": hanging}) as client:
        caller = asyncio.create_task(client.delete(SESSIONS, headers=bearer(MINE)))
        await hanging.hanging.wait()
        caller.cancel()
        await asyncio.wait({caller})
    # The end of the service cuts it short, and what has happened until then is recorded.
    event = events.one()
    assert (event["revoked_sessions"], event["failed_sessions"]) == (0, 2)


async def test_the_same_call_at_the_same_time_is_one_sign_out(
    service: httpx.AsyncClient, clerk: StandIn, events: EventFile
) -> None:
    *_, own = clerk.sign_in(3)
    cookies = [f"__session={token_of(own)}; __session_{number}=a" for number in range(20)]
    answers = await asyncio.gather(*(service.delete(SESSIONS, headers={"Cookie": cookie}) for cookie in cookies))
    assert [answer.status_code for answer in answers] == [200] * 20
    event = events.one()
    assert {answer.json()["event_id"] for answer in answers} == {event["event_id"]}
    assert clerk.calls.count("GET /v1/sessions") == 2
    for number, answer in enumerate(answers):  # each with its own cookies
        assert answer.headers.get_list("set-cookie") == expired_cookies("__session", f"__session_{number}")


@pytest.mark.parametrize(("first", "then"), [("others", "all"), ("all", "others")])
async def test_the_other_scope_is_a_sign_out_of_its_own(open_client: OpenClient, first: str, then: str) -> None:
    """Who signs out everywhere must not be answered with what was done for who did not."""
    held = HeldClerk(OWN, "sess_1")
    async with open_client(resources={"clerk": held}) as client:
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


async def test_another_call_of_the_same_user_waits_but_not_for_ever(
    open_client: OpenClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = HeldClerk(OWN, "sess_1")
    monkeypatch.setattr(sign_outs, "MAX_WAIT", 0.01)
    async with open_client(resources={"clerk": held}) as client:
        caller = asyncio.create_task(client.delete(SESSIONS, headers=bearer(MINE)))
        await held.asked.wait()
        for scope in ("others", "all"):
            response = await client.delete(SESSIONS, params={"scope": scope}, headers=bearer(OTHER))
            assert (response.status_code, response.json()["reason"]) == (503, "busy")
            assert response.headers["retry-after"] == "5"
        held.held.set()
        await caller
    said = [record.message for record in caplog.records if record.name == "service.sessions"]
    assert said == ["a sign-out everywhere was turned away: too many are in progress"]


async def test_who_had_to_wait_has_only_the_rest_of_the_time(
    open_client: OpenClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first takes all of it; three quarters of it would be enough for the second."""
    monkeypatch.setattr(sign_outs, "TIMEOUT", 2.0)
    fake = HeldClerk(OWN, "sess_1")
    async with open_client(resources={"clerk": fake}) as client:
        first = asyncio.create_task(client.delete(SESSIONS, headers=bearer(MINE)))
        await fake.asked.wait()
        second = asyncio.create_task(client.delete(SESSIONS, headers=bearer(OTHER)))
        assert (await first).json()["reason"] == "clerk-timeout"
        asyncio.get_running_loop().call_later(1.5, fake.held.set)
        assert (await second).json()["reason"] == "clerk-timeout"


# --- The limit of a user ---------------------------------------------------------------------------------------------

SECOND = 1_000_000_000


class Repeating:
    """Calls for one user, at times that the test sets."""

    def __init__(self) -> None:
        self.now = 0
        self.fake = FakeClerk(OWN)
        self.client: httpx.AsyncClient

    async def statuses(self, calls: int, *, scope: str = "others") -> list[int]:
        """Call one after the other, with a session that is left for the next call."""
        return [(await self.call(scope=scope)).status_code for _ in range(calls)]

    async def call(self, *, of: str = MINE, scope: str = "others") -> httpx.Response:
        return await self.client.delete(SESSIONS, params={"scope": scope}, headers=bearer(of))

    def fail(self, error: Exception | None) -> None:
        """Have all further lists fail, or none."""
        self.fake.list_trouble = {} if error is None else dict.fromkeys(range(999), error)


@pytest.fixture
async def repeating(open_client: OpenClient) -> AsyncIterator[Repeating]:
    repeating = Repeating()
    limit = SignOutLimit(lambda: repeating.now)
    async with open_client(resources={"clerk": repeating.fake}, state={"sign_out_limit": limit}) as repeating.client:
        yield repeating


async def test_a_sixth_in_a_minute_is_429_and_clerk_is_not_asked(repeating: Repeating, events: EventFile) -> None:
    """Whatever the session and the scope."""
    repeating.fake.known = {OWN, "sess_2"}
    assert await repeating.statuses(2, scope="all") + await repeating.statuses(3) == [200] * 5
    lists = repeating.fake.lists
    response = await repeating.call(of=OTHER, scope="all")
    assert (response.status_code, response.headers["retry-after"]) == (429, "12")
    assert response.json() == {
        "success": False,
        "message": "Too many sign-outs of this user. Retry after the number of seconds in Retry-After",
        "reason": "too-many-requests",
    }
    assert "set-cookie" not in response.headers
    assert (repeating.fake.lists, len(events.new())) == (lists, 5)
    repeating.now += 12 * SECOND - 1
    assert await repeating.statuses(1) == [429]
    repeating.now += 1
    assert await repeating.statuses(2) == [200, 429]


async def test_joining_costs_nothing_and_a_refusal_is_shared(open_client: OpenClient) -> None:
    held = HeldClerk(OWN, "sess_1")
    async with open_client(resources={"clerk": held}) as client:
        for expected in [{200}] * 5 + [{429}]:
            calls = [asyncio.create_task(client.delete(SESSIONS, headers=bearer(MINE))) for _ in range(20)]
            held.held.set()
            assert {(await call).status_code for call in calls} == expected


@pytest.mark.parametrize(("error", "status"), [(ClerkRateLimitedError("429", 7), 503), (None, 502)], ids=str)
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


async def test_what_fails_for_ever_is_tried_once_a_second(
    repeating: Repeating, caplog: pytest.LogCaptureFixture
) -> None:
    """And is logged once a minute for each reason."""
    repeating.fail(ClerkRateLimitedError("429", 1))
    assert await repeating.statuses(TRIES + 3) == [503] * TRIES + [429] * 3
    response = await repeating.call()
    assert (response.status_code, response.headers["retry-after"]) == (429, "1")
    assert repeating.fake.lists == TRIES
    repeating.now += SECOND
    assert await repeating.statuses(2) == [503, 429]
    problems = ("429", "one user has asked for too many")
    said = [record.message for record in caplog.records if record.name == "service.sessions"]
    assert said == [f"a sign-out everywhere failed: {problem}" for problem in problems]


# --- Record, then refuse, then answer --------------------------------------------------------------------------------


async def test_what_has_ended_is_listed_for_the_longest_lifetime(open_client: OpenClient) -> None:
    fake, noting = FakeClerk("sess_1", "sess_2"), Noting()
    fake.trouble = {"sess_2": ClerkApiError("500")}
    mine = token(claims(sub=ALICE, sid=OWN) | {"exp": claims()["iat"] + 3600})
    async with open_client(resources={"clerk": fake} | noting.parts()) as client:
        for _ in range(2):
            await client.delete(SESSIONS, params={"scope": "others"}, headers=bearer(mine))
    assert noting.done == ["user_logout_everywhere", {"sess_1"}, "user_logout_everywhere"]
    assert noting.seconds == 3610


@pytest.mark.parametrize(
    ("noting", "recorded", "said"),
    [
        (Noting(), True, None),
        (Noting(outcome=False), False, None),
        (Noting(SECRET_ERROR), False, "user_logout_everywhere was not recorded"),
        (Noting(store_error=SECRET_ERROR), True, "not put on the revocation list"),
    ],
    ids=["nothing", "the log", "the recorder", "the list"],
)
async def test_the_event_comes_first_then_the_list_whatever_fails(
    open_client: OpenClient, noting: Noting, recorded: bool, said: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_client(resources={"clerk": FakeClerk(OWN)} | noting.parts()) as client:
        response = await client.delete(SESSIONS, headers=bearer(MINE))
    assert (response.status_code, counts(response.json())) == (200, (True, 1, 0))
    assert response.json()["recorded"] is recorded
    assert noting.done == ["user_logout_everywhere", {OWN}]
    assert_said(caplog, said)

"""What Clerk says about sessions and keys: the real client and SDK over a mocked wire."""

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

import httpx
import pytest
import respx
from prometheus_client import generate_latest

from service.clerk.backend_api import MAX_REVOCATIONS, PAGE_SIZE, BackendApi, backend_api
from service.clerk.errors import ClerkApiError, ClerkKeyRejectedError, ClerkNotFoundError, ClerkRateLimitedError
from service.clerk.keys import KeyRing
from service.sandbox.instance import Instance
from service.telemetry.metrics import Metrics
from tests.support.processes import ROOT, TIMEOUT
from tests.support.served_clerk import serve_clerk
from tests.support.signing import KID, jwk

URL = "https://api.clerk.com"
SECRET_KEY = "sk_test_Zm9yVGVzdHNPbmx5"
JSON = {"Content-Type": "application/json"}
USER = "user&status=ended#?%2F"
"""Must stay one parameter of the URL."""


SESSION = Instance("https://clerk.example.com", SECRET_KEY).sign_in(USER).as_json()


def session(session_id: str = "sess_1", **changes: Any) -> dict[str, Any]:
    """A session as Clerk gives it."""
    return SESSION | {"id": session_id} | changes


class MockedClerk(NamedTuple):
    """The real client, and the wire on which it asks."""

    wire: respx.Router
    api: BackendApi
    metrics: Metrics

    def counted(self) -> dict[str, float]:
        """The calls that were counted, by name and result."""
        (family,) = self.metrics.clerk_requests.collect()
        return {" ".join(one.labels.values()): one.value for one in family.samples if one.value and "total" in one.name}


@pytest.fixture
async def clerk() -> AsyncIterator[MockedClerk]:
    metrics = Metrics()
    with respx.mock(base_url=f"{URL}/v1") as wire:
        async with backend_api(URL, SECRET_KEY, metrics) as api:
            yield MockedClerk(wire, api, metrics)


# --- Lists -----------------------------------------------------------------------------------------------------------


async def test_active_and_pending_sessions_are_listed(clerk: MockedClerk) -> None:
    """Clerk's filter knows no pending ones, so nothing is filtered there. The call is counted, all others are at 0."""
    statuses = ["ended", "active", "pending", "revoked", "new", "removed", "expired", "abandoned", "replaced"]
    route = clerk.wire.get("/sessions").respond(json=[session(f"sess_{status}", status=status) for status in statuses])
    assert await clerk.api.alive_sessions(USER) == ["sess_active", "sess_pending", "sess_new"]
    request = route.calls.last.request
    assert dict(request.url.params) == {"user_id": USER, "limit": "500", "offset": "0"}
    assert request.headers["authorization"] == f"Bearer {SECRET_KEY}"
    assert clerk.counted() == {"list ok": 1}
    assert b'clerk_requests_total{call="revoke",result="refused"} 0.0' in generate_latest(clerk.metrics.registry)


@pytest.mark.parametrize(("count", "lists"), [(499, 1), (500, 2), (1200, 3)])
async def test_the_list_is_read_to_its_end_whatever_has_ended(count: int, lists: int, clerk: MockedClerk) -> None:
    rows = [session(f"sess_{number}", status="ended") for number in range(count - 1)] + [session("sess_last")]

    def page(request: httpx.Request) -> httpx.Response:
        offset = int(request.url.params["offset"])
        return httpx.Response(200, json=rows[offset : offset + int(request.url.params["limit"])])

    route = clerk.wire.get("/sessions").mock(side_effect=page)
    assert await clerk.api.alive_sessions(USER) == ["sess_last"]
    assert route.call_count == lists


async def test_one_that_is_shifted_to_the_next_page_is_listed_once(clerk: MockedClerk) -> None:
    rows = [session(f"sess_{number}") for number in range(PAGE_SIZE)]
    clerk.wire.get("/sessions").mock(side_effect=[httpx.Response(200, json=page) for page in (rows, rows[-1:])])
    assert len(await clerk.api.alive_sessions(USER)) == PAGE_SIZE


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"user_id": "user_bob"}, "holds a session that was not asked for"),
        *(({"id": odd}, "holds a session id that cannot be used") for odd in ("", "a?b", "a\n", "x" * 129)),
        *(({name: None}, "is not a list of sessions") for name in ("id", "user_id", "status")),
    ],
    ids=str,
)
async def test_a_list_with_something_else_in_it_is_not_used(
    clerk: MockedClerk, changes: dict[str, Any], problem: str
) -> None:
    clerk.wire.get("/sessions").respond(json=[session(), session(**changes)])
    with pytest.raises(ClerkApiError, match=f"^the answer {problem}$"):
        await clerk.api.alive_sessions(USER)


NOT_NEEDED = sorted(SESSION.keys() - {"id", "user_id", "status"})


@pytest.mark.parametrize("odd", ["soon", None, ..., {"key": "\ud800"}], ids=str)
async def test_what_is_not_needed_may_be_odd_or_missing(clerk: MockedClerk, odd: Any) -> None:
    """The SDK refuses an answer with an odd field, and one of another content type."""
    row = session() | dict.fromkeys(NOT_NEEDED, odd)
    row = {name: value for name, value in row.items() if value is not ...}
    for route, answer in (
        (clerk.wire.get("/sessions"), [session("sess_2"), row]),
        (clerk.wire.post("/sessions/sess_1/revoke"), row | {"status": "revoked"}),
        (clerk.wire.get("/sessions/sess_1"), row),
    ):
        route.respond(content=json.dumps(answer), headers={"Content-Type": "text/plain"})
    assert await clerk.api.alive_sessions(USER) == ["sess_2", "sess_1"]
    assert await clerk.api.revoke_session("sess_1") is True
    assert await clerk.api.is_alive("sess_1") is True


# --- Revocations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["revoked", "ended", "expired", "removed", "abandoned", "replaced"])
async def test_a_session_is_revoked_or_had_ended_already(clerk: MockedClerk, status: str) -> None:
    clerk.wire.post("/sessions/sess_1/revoke").respond(json=session(status=status))
    clerk.wire.get("/sessions/sess_1").respond(json=session(status=status))
    assert await clerk.api.revoke_session("sess_1") is (status == "revoked")
    assert await clerk.api.is_alive("sess_1") is False
    assert clerk.counted() == {"revoke ok": 1, "get ok": 1}


async def test_one_that_clerk_does_not_have_was_gone_already(clerk: MockedClerk) -> None:
    clerk.wire.post("/sessions/sess_1/revoke").respond(404, json={"errors": [{"message": "not found", "code": "x"}]})
    assert await clerk.api.revoke_session("sess_1") is False
    assert clerk.counted() == {"revoke not_found": 1}


@pytest.mark.parametrize("changes", [{"status": "active"}, {"status": "new"}, {"id": "sess_2"}], ids=str)
async def test_an_answer_that_does_not_say_that_it_ended_is_an_error(
    clerk: MockedClerk, changes: dict[str, str]
) -> None:
    clerk.wire.post("/sessions/sess_1/revoke").respond(json=session(status="revoked") | changes)
    with pytest.raises(ClerkApiError, match="does not say that the session has ended"):
        await clerk.api.revoke_session("sess_1")


# --- What goes wrong -------------------------------------------------------------------------------------------------

ERRORS = {"errors": [{"message": "secret text", "long_message": "secret text", "code": "some_code"}]}


Answer = httpx.Response | Exception
FAILURES: list[tuple[Answer, str]] = [
    (httpx.Response(401, content=b"{", headers=JSON), "Clerk does not accept CLERK_SECRET_KEY (status 401)"),
    (httpx.Response(403, json=ERRORS), "Clerk does not accept CLERK_SECRET_KEY (status 403)"),
    (httpx.Response(429, json=ERRORS), "Clerk answered with status 429"),
    (httpx.Response(503, json=ERRORS), "Clerk answered with status 503"),
    (httpx.Response(302, headers={"Location": "https://evil.example/"}), "Clerk answered with status 302"),
    (httpx.Response(200, text="<html>"), "the answer is not a "),
    (httpx.Response(200, content=b"[" * 5000, headers=JSON), "the answer is not a "),
    (httpx.Response(200, json={"keys": {}, "key": SECRET_KEY}), "the answer is not a "),
    (httpx.ReadTimeout("secret text"), "no connection (ReadTimeout)"),
    (RuntimeError("secret text"), "unexpectedly RuntimeError in "),
]
KINDS = {401: ClerkKeyRejectedError, 403: ClerkKeyRejectedError, 429: ClerkRateLimitedError}


CALLS: dict[str, Callable[[BackendApi], Awaitable[object]]] = {
    "list": lambda api: api.alive_sessions(USER),
    "get": lambda api: api.is_alive("sess_1"),
    "revoke": lambda api: api.revoke_session("sess_1"),
    "jwks": lambda api: api.jwks(),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure[1])
async def test_a_failing_call_is_one_attempt_and_one_line_that_says_why(
    call: str, failure: tuple[Answer, str], clerk: MockedClerk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    answer, problem = failure
    route = clerk.wire.route().mock(side_effect=[answer])
    with pytest.raises(ClerkApiError) as caught:
        await CALLS[call](clerk.api)
    kind = KINDS.get(answer.status_code, ClerkApiError) if isinstance(answer, httpx.Response) else ClerkApiError
    assert type(caught.value) is kind
    assert str(caught.value).startswith(problem)
    assert not [secret for secret in ("secret text", SECRET_KEY) if secret in str(caught.value) + caplog.text]
    assert route.call_count == 1
    assert clerk.counted() == ({} if call == "jwks" else {f"{call} {kind.result}": 1})


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        *(("7", 7), ("0", 1), ("3601", 3600)),
        *((odd, None) for odd in (None, "-1", "9" * 5000, "٣", "Fri, 31 Dec 1999 23:59:59 GMT")),
    ],
)
async def test_clerks_own_time_to_wait_is_told_within_bounds(
    clerk: MockedClerk, header: str | None, seconds: int | None
) -> None:
    headers = {} if header is None else {"Retry-After": header.encode()}
    clerk.wire.get("/sessions").mock(return_value=httpx.Response(429, headers=headers))  # type: ignore[arg-type] # bytes are fine
    with pytest.raises(ClerkRateLimitedError) as caught:
        await clerk.api.alive_sessions(USER)
    assert caught.value.retry_after == seconds


async def test_a_session_unknown_to_clerk_is_neither_alive_nor_over(clerk: MockedClerk) -> None:
    clerk.wire.get("/sessions/sess_1").respond(404, json=ERRORS)
    with pytest.raises(ClerkNotFoundError):
        await clerk.api.is_alive("sess_1")
    assert clerk.counted() == {"get not_found": 1}
    with pytest.raises(ClerkNotFoundError):
        await clerk.api.is_alive("../users/1")
    assert clerk.wire.calls.call_count == 1, "it would be another path"


async def test_20_sessions_are_ended_at_the_same_time_whoever_asks(clerk: MockedClerk) -> None:
    under_way, most, enough = 0, 0, asyncio.Event()

    async def answer(request: httpx.Request) -> httpx.Response:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        if under_way == MAX_REVOCATIONS:
            enough.set()
        await enough.wait()
        under_way -= 1
        return httpx.Response(200, json=session(request.url.path.split("/")[3], status="revoked"))

    clerk.wire.post(path__regex="/revoke$").mock(side_effect=answer)
    ended = await asyncio.gather(*(clerk.api.revoke_session(f"sess_{number}") for number in range(50)))
    assert all(ended)
    assert most == MAX_REVOCATIONS


# --- Keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [{}, {"keys": None}, {"keys": [None]}], ids=str)
async def test_a_jwks_without_keys_is_no_keys(body: object, clerk: MockedClerk) -> None:
    clerk.wire.get("/jwks").respond(json=body)
    assert await clerk.api.jwks() == []


@pytest.mark.parametrize("odd", [{"kid": 5}, {"kid": "k", "n": ["x"]}, {"x": {"y": "\ud800"}}, "k", None])
async def test_an_odd_key_hides_no_good_one(odd: object, clerk: MockedClerk) -> None:
    """The SDK refuses the whole JWKS for most of these, and for another content type."""
    content = json.dumps({"keys": [odd, jwk(), odd], "next": {}})
    clerk.wire.get("/jwks").respond(content=content, headers={"Content-Type": "application/jwk-set+json"})
    ring = KeyRing(clerk.api.jwks)
    assert await ring.refresh()
    assert [*ring.by_kid] == [KID]
    assert clerk.wire.calls.last.request.headers["authorization"] == f"Bearer {SECRET_KEY}"


# --- The warm-up -----------------------------------------------------------------------------------------------------

FIRST_CALLS = """
import asyncio, sys

import service.app
from service.clerk.backend_api import backend_api


async def main(url, secret_key, warm):
    async with backend_api(url, secret_key) as api:
        if warm == "True":
            await api.warm_up()
        before = set(sys.modules)
        for session_id in await api.alive_sessions("user_2alice"):
            assert await api.revoke_session(session_id)
        print(len(set(sys.modules) - before))


asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("warm", [True, False], ids=["warmed up", "cold"])
def test_after_the_warm_up_the_first_calls_import_nothing(warm: bool) -> None:
    with serve_clerk() as clerk:
        clerk.instance.sign_in("user_2alice")
        command = [sys.executable, "-c", FIRST_CALLS, clerk.url, clerk.instance.secret_key, str(warm)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT, check=True)
        assert clerk.statuses("user_2alice") == ["revoked"]
    assert (done.stdout == "0\n") is warm

"""Whether a session counts, over real tokens and a real list; and the answers to those that do not."""

import asyncio
import json
import logging
import time
from collections.abc import Callable
from typing import Any, Literal

import pytest

from service.clerk.keys import KeyRing
from service.clerk.verdict import ABSENT, Auth, Reason, Verdict
from service.clerk.verifier import KEY_TIMEOUT, Verifier
from service.sessions.check import SIGN_OUT_TOLERANCE, SessionUser
from service.sessions.refusal import (
    ABSENT_REFUSED,
    REVOCATIONS_UNAVAILABLE,
    SESSION_PENDING,
    SESSION_REVOKED,
    Refusal,
    refusal_of,
)
from tests.guard.parts import OTHER, SESSION, USER, FakeRecorder, Parts, bearer, cookies, expired, of_session
from tests.support.signing import claims, header, private_key, token

FORGED = token(key=private_key("forger"))

# --- Who is let in ---------------------------------------------------------------------------------------------------


async def test_a_token_that_counts_admits_its_user() -> None:
    issued = int(time.time())
    sent = token(claims(now=issued, o={"id": "org_2abc"}, act={"sub": "user_2support"}))
    user = SessionUser(USER, SESSION, "org_2abc", "user_2support", issued + 60, is_pending=False)
    assert await Parts().outcome(bearer(sent)) == await Parts().outcome(cookies(sent)) == user


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        pytest.param({}, "session-token-missing", id="nothing sent"),
        pytest.param({"Authorization": "Basic dTpw"}, "session-token-missing", id="another scheme"),
        pytest.param(bearer("garbage"), "token-invalid", id="garbage"),
        pytest.param(bearer(expired()), "token-expired", id="expired"),
        pytest.param(bearer(FORGED), "token-invalid-signature", id="forged"),
        pytest.param(cookies(expired(), "garbage"), "token-expired", id="the better of two"),
        pytest.param(cookies("garbage", expired()), "token-expired", id="the better of two, turned round"),
    ],
)
async def test_a_token_that_does_not_count_is_refused(headers: dict[str, str], reason: str) -> None:
    parts = Parts()
    for _ in range(3):
        outcome = await parts.outcome(headers)
        assert isinstance(outcome, Refusal)
        assert (outcome.status, outcome.reason) == (401, reason)
    assert parts.store.asked == 0, "only a verified token is looked up"
    assert parts.recorder.events == []


async def test_ours_is_found_among_other_applications_cookies() -> None:
    foreign = [token(claims(exp=9_000_000_000 + number), key=private_key("forger")) for number in range(3)]
    assert isinstance(await Parts().outcome(cookies(*foreign, of_session())), SessionUser)


async def test_all_tokens_of_a_request_share_the_wait_for_keys() -> None:
    async def no_answer() -> list[Any]:
        return await asyncio.Future()

    sent = cookies(*(of_session(f"sess_{number}") for number in range(4)))
    started = time.monotonic()
    outcome = await Parts(verifier=Verifier(KeyRing(no_answer))).outcome(sent)
    assert (outcome.status, outcome.reason, outcome.retry_after) == (503, "jwk-failed-to-load", 30)
    assert time.monotonic() - started < 3 * KEY_TIMEOUT


# --- Open tasks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "admitted", "admitted_where_pending_is"),
    [
        (None, True, True),
        ("active", True, True),
        ("pending", False, True),
        ("Active", False, False),
        ("", False, False),
        ("blocked", False, False),
        (True, False, False),
        (["active"], False, False),
    ],
    ids=repr,
)
async def test_a_session_with_open_tasks_is_refused_unless_it_is_allowed(
    status: object, admitted: bool, admitted_where_pending_is: bool
) -> None:
    sent = bearer(of_session(sts=status))
    for allow_pending, expected in ((False, admitted), (True, admitted_where_pending_is)):
        outcome = await Parts().outcome(sent, allow_pending=allow_pending)
        assert outcome == SESSION_PENDING if not expected else isinstance(outcome, SessionUser)


async def test_a_status_of_null_is_none_of_clerks() -> None:
    sent = token({**claims(), "sts": None})
    assert await Parts().outcome(bearer(sent), allow_pending=True) == SESSION_PENDING


@pytest.mark.parametrize("order", [1, -1])
async def test_an_active_session_beside_a_pending_one_admits(order: int) -> None:
    outcome = await Parts().outcome(cookies(*[of_session(sts="pending"), of_session(OTHER)][::order]))
    assert outcome.session_id == OTHER


async def test_a_pending_session_that_is_signed_out_is_refused_for_good() -> None:
    parts = Parts()
    await parts.revocations.revoke([SESSION])
    for allow_pending, refusal in ((True, SESSION_REVOKED), (False, SESSION_PENDING)):
        assert await parts.outcome(bearer(of_session(sts="pending")), allow_pending=allow_pending) == refusal
    assert (await parts.outcome(cookies(of_session(sts="pending"), expired()))) == SESSION_PENDING


# --- What is remembered ----------------------------------------------------------------------------------------------


async def test_a_verified_token_is_remembered_but_looked_up() -> None:
    parts = Parts()
    sent = bearer(of_session(jti="1"))
    assert [type(await parts.outcome(sent)) for _ in range(5)] == [SessionUser] * 5
    assert (parts.verifier.verifications, parts.store.asked) == (1, 5)
    await parts.outcome(bearer(of_session(jti="2")))
    assert parts.verifier.verifications == 2
    await parts.revocations.revoke([SESSION])
    assert await parts.outcome(sent) == SESSION_REVOKED


@pytest.mark.parametrize("sent", ["garbage", expired(), FORGED], ids=["garbage", "expired", "forged"])
async def test_any_other_token_is_judged_each_time(sent: str) -> None:
    parts = Parts()
    for _ in range(3):
        await parts.outcome(bearer(sent))
    assert parts.verifier.verifications == 3


# --- Signed-out sessions ---------------------------------------------------------------------------------------------


async def test_a_signed_out_session_is_refused_and_no_other() -> None:
    parts = Parts()
    await parts.revocations.revoke([SESSION])
    assert await parts.outcome(bearer(of_session())) == SESSION_REVOKED
    assert isinstance(await parts.outcome(bearer(of_session(OTHER))), SessionUser)


@pytest.mark.parametrize("order", [1, -1], ids=["signed out first", "signed out last"])
async def test_of_two_sessions_the_one_that_counts_admits(order: int) -> None:
    parts = Parts()
    await parts.revocations.revoke([SESSION])
    outcome = await parts.outcome(cookies(*[of_session(SESSION), of_session(OTHER)][::order]))
    assert outcome.session_id == OTHER
    assert parts.recorder.events == []


@pytest.mark.parametrize("other", ["garbage", expired()], ids=["garbage", "expired"])
@pytest.mark.parametrize("order", [1, -1])
async def test_signed_out_says_more_than_a_bad_token(other: str, order: int) -> None:
    parts = Parts()
    await parts.revocations.revoke([SESSION])
    assert await parts.outcome(cookies(*[of_session(), other][::order])) == SESSION_REVOKED


# --- The list is out of reach ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fail", ["closed", "open"])
async def test_while_the_list_is_out_of_reach_the_setting_decides(fail: Literal["closed", "open"]) -> None:
    parts = Parts(fail=fail)
    await parts.revocations.revoke([SESSION])
    parts.store.out_of_reach = True
    outcome = await parts.outcome(bearer(of_session()))
    assert outcome == REVOCATIONS_UNAVAILABLE if fail == "closed" else isinstance(outcome, SessionUser)
    assert (await parts.outcome(bearer("garbage"))).reason == "token-invalid"
    assert await parts.outcome() == ABSENT_REFUSED
    parts.store.out_of_reach = False
    assert await parts.outcome(bearer(of_session())) == SESSION_REVOKED


async def test_all_questions_of_a_request_share_one_budget() -> None:
    parts = Parts()
    sessions = [f"sess_{number}" for number in range(4)]
    await parts.revocations.revoke(sessions)
    parts.store.takes = 0.02
    await parts.outcome(cookies(*(of_session(session_id) for session_id in sessions)))
    assert len(parts.store.within) == 5
    assert parts.store.within == sorted(parts.store.within, reverse=True)
    assert parts.store.within[-1] <= max(0.0, parts.store.within[0] - 4 * parts.store.takes)


# --- What is reported ------------------------------------------------------------------------------------------------


async def test_a_use_after_logout_says_who_when_and_where() -> None:
    parts = Parts()
    issued = int(time.time()) - 20
    await parts.revocations.revoke([SESSION])
    sent = of_session(now=issued, o={"id": "org_2abc"}, act={"sub": "user_2support"})
    before = time.time()
    await parts.outcome(bearer(sent) | {"X-Request-ID": "r-1"})
    (event,) = parts.recorder.events
    line = event.fields()
    assert (line["user_id"], line["session_id"], line["org_id"]) == (USER, SESSION, "org_2abc")
    assert (line["actor_id"], line["request_id"]) == ("user_2support", "r-1")
    assert (line["auth"], line["reason"]) == ("verified", None)
    assert event.token_issued_at == f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(issued))}.000000Z"
    assert event.logged_out_at <= time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(before + 1))
    assert not event.issued_after_logout


@pytest.mark.parametrize(("later", "says"), [(-60, False), (SIGN_OUT_TOLERANCE, False), (SIGN_OUT_TOLERANCE + 1, True)])
async def test_a_token_made_long_after_the_logout_is_told_apart(later: int, *, says: bool) -> None:
    """It means that Clerk never ended the session; only seconds after, it may have been about to."""
    parts = Parts()
    issued = int(time.time()) - 5
    await parts.store.add([SESSION], at=issued - later, seconds=75)
    await parts.outcome(bearer(of_session(now=issued)))
    assert [event.issued_after_logout for event in parts.recorder.events] == [says]


@pytest.mark.parametrize(
    ("oiat", "says"),
    [
        pytest.param(lambda issued: issued - 60, False, id="assembled before the logout"),
        pytest.param(lambda issued: issued, True, id="assembled after it"),
        pytest.param(lambda issued: issued - 60.5, False, id="a fraction"),
        pytest.param(lambda _: None, True, id="null"),
        pytest.param(lambda _: "1", True, id="a string"),
        pytest.param(lambda _: True, True, id="a boolean"),
        pytest.param(lambda _: [1], True, id="a list"),
    ],
)
async def test_a_token_that_the_edge_minted_anew_is_as_old_as_its_origin(
    oiat: Callable[[int], object], says: bool
) -> None:
    """Clerk's edge gives a later ``iat``; the header's ``oiat`` is when the claims were assembled."""
    parts = Parts()
    issued = int(time.time()) - 5
    await parts.store.add([SESSION], at=issued - 30, seconds=75)
    await parts.outcome(bearer(token(claims(now=issued), head=header() | {"oiat": oiat(issued)})))
    (event,) = parts.recorder.events
    assert event.issued_after_logout is says
    assert event.token_issued_at == f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(issued))}.000000Z"


async def test_a_session_is_reported_once_in_a_window() -> None:
    """Whatever token comes, and over all guards that share the store."""
    first = Parts()
    second = Parts(store=first.store)
    await first.revocations.revoke([SESSION, OTHER])
    for parts in (first, second):
        for session_id in (SESSION, OTHER, SESSION, SESSION, OTHER):
            assert await parts.outcome(bearer(of_session(session_id))) == SESSION_REVOKED
    assert [event.fields()["session_id"] for event in first.recorder.events] == [SESSION, OTHER]
    assert second.recorder.events == []


async def test_a_time_that_no_calendar_knows_is_the_nearest() -> None:
    parts = Parts()
    await parts.revocations.revoke([SESSION])
    await parts.outcome(bearer(of_session(iat=-(10**300))))
    assert parts.recorder.events[0].token_issued_at == "0001-01-01T00:00:00.000000Z"


async def test_a_recorder_that_fails_changes_no_refusal(caplog: pytest.LogCaptureFixture) -> None:
    sent = of_session()
    parts = Parts(recorder=FakeRecorder(ValueError(f"broken by {sent}")))
    await parts.revocations.revoke([SESSION])
    caplog.set_level(logging.DEBUG)
    assert await parts.outcome(bearer(sent)) == SESSION_REVOKED
    (message,) = [record.message for record in caplog.records if record.name == "service.guard"]
    assert message.startswith("a use after logout was not recorded: ValueError in parts.py:")
    assert not [part for part in sent.split(".") if part in message]


async def test_each_decision_is_counted_by_its_result() -> None:
    parts = Parts()
    await parts.revocations.revoke([OTHER])
    sent = [of_session(), of_session(OTHER), expired(), "garbage", of_session(sts="pending")]
    for headers in (*map(bearer, sent), {}, {}):
        await parts.outcome(headers)
    parts.store.out_of_reach = True
    await parts.outcome(bearer(of_session()))
    assert parts.counted() == {
        "admitted": 1,
        "signed_out": 1,
        "expired": 1,
        "rejected": 1,
        "pending": 1,
        "absent": 2,
        "unknown": 1,
    }


# --- The answers -----------------------------------------------------------------------------------------------------

EXPIRED = refusal_of(Verdict(Auth.EXPIRED, Reason.TOKEN_EXPIRED))
REJECTED = refusal_of(Verdict(Auth.REJECTED, Reason.TOKEN_INVALID_SIGNATURE))
UNVERIFIABLE = refusal_of(Verdict(Auth.UNVERIFIABLE, Reason.JWK_FAILED_TO_LOAD))


@pytest.mark.parametrize(
    ("refusal", "status", "challenge"),
    [
        (refusal_of(ABSENT), 401, "Bearer"),
        *(
            (refusal, 401, f'Bearer error="invalid_token", error_description="{refusal.reason}"')
            for refusal in (EXPIRED, REJECTED, SESSION_REVOKED)
        ),
        (UNVERIFIABLE, 503, None),
        (REVOCATIONS_UNAVAILABLE, 503, None),
    ],
    ids=lambda value: value.reason if isinstance(value, Refusal) else "",
)
def test_a_refusal_is_json_that_nobody_stores(refusal: Refusal, status: int, challenge: str | None) -> None:
    response = refusal.response()
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers.get("www-authenticate") == challenge
    assert (int(response.headers.get("retry-after", 0)) >= 1) == (status == 503)
    body = {"success": False, "message": refusal.message, "reason": refusal.reason}
    assert json.loads(bytes(response.body)) == body

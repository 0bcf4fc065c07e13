"""Whether a session counts, over real tokens and a real list; and the answers to those that do not."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest

from service.clerk.keys import KeyRing
from service.clerk.verifier import Verifier
from service.events.types import timestamp_of
from service.sessions import check as check_module
from service.sessions.check import SIGN_OUT_TOLERANCE, SessionUser
from service.sessions.refusal import SESSION_PENDING, SESSION_REVOKED
from tests.guard.parts import OTHER, SESSION, USER, FakeRecorder, Parts, bearer, cookies, expired, of_session
from tests.support.signing import claims, header, private_key, token

FORGED = token(key=private_key("forger"))
PENDING = "sess_2pending"

# --- Who is let in ---------------------------------------------------------------------------------------------------


async def test_only_a_verified_token_is_remembered_and_looked_up() -> None:
    parts = Parts()
    for _ in range(3):
        assert (await parts.outcome(cookies(FORGED, expired()))).reason == "token-expired", "the better of two"
    assert (parts.verifier.verifications, parts.store.within) == (6, [])
    sent = bearer(of_session(jti="1"))
    assert [type(await parts.outcome(sent)) for _ in range(5)] == [SessionUser] * 5
    assert (parts.verifier.verifications, len(parts.store.within)) == (7, 5)
    await parts.outcome(bearer(of_session(jti="2")))
    assert parts.verifier.verifications == 8
    await parts.revocations.revoke([SESSION])
    assert await parts.outcome(sent) == SESSION_REVOKED


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    ("tokens", "outcome"),
    [
        (lambda: [of_session(), expired()], SESSION_REVOKED),
        (lambda: [of_session(), of_session(PENDING, sts="pending")], SESSION_REVOKED),
        (lambda: [of_session(), of_session(OTHER)], OTHER),
        (lambda: [of_session(PENDING, sts="pending"), expired()], SESSION_PENDING),
        (lambda: [of_session(PENDING, sts="pending"), of_session(OTHER)], OTHER),
    ],
    ids=["revoked and expired", "revoked and pending", "revoked", "pending and expired", "pending"],
)
async def test_of_several_tokens_one_that_counts_admits(
    tokens: Callable[[], list[str]], outcome: object, order: int
) -> None:
    """Of others, a signed-out session says more than one with open tasks, and that more than a bad token."""
    parts = Parts()
    await parts.revocations.revoke([SESSION])
    got = await parts.outcome(cookies(*tokens()[::order]))
    assert outcome == (got.session_id if isinstance(got, SessionUser) else got)
    assert len(parts.recorder.events) == (outcome == SESSION_REVOKED)


async def test_of_many_tokens_the_four_likeliest_are_verified() -> None:
    foreign = [token(claims(exp=1000 + number), key=private_key("forger")) for number in range(10)]
    parts = Parts()
    assert isinstance(await parts.outcome(cookies(*foreign, of_session())), SessionUser)
    assert parts.verifier.verifications == 1
    assert (await parts.outcome(cookies(*foreign))).reason == "token-invalid-signature"
    assert parts.verifier.verifications == 5


async def test_all_tokens_of_a_request_share_the_wait_for_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_module, "KEY_TIMEOUT", 1.0)

    async def no_answer() -> list[Any]:
        return await asyncio.Future()

    sent = cookies(*(of_session(f"sess_{number}") for number in range(4)))
    started = time.monotonic()
    outcome = await Parts(verifier=Verifier(KeyRing(no_answer))).outcome(sent)
    assert (outcome.status, outcome.reason, outcome.retry_after) == (503, "jwk-failed-to-load", 30)
    assert 0.9 <= time.monotonic() - started < 3


@pytest.mark.parametrize(
    ("status", "admitted"),
    [(..., [True, True]), ("pending", [False, True]), (None, [False, False]), (["active"], [False, False])],
    ids=str,
)
async def test_with_open_tasks_it_is_refused_unless_they_are_allowed(status: object, admitted: list[bool]) -> None:
    sent = bearer(token({name: value for name, value in {**claims(), "sts": status}.items() if value is not ...}))
    parts = Parts()
    outcomes = [await parts.outcome(sent, allow_pending=allowed) for allowed in (False, True)]
    assert [isinstance(outcome, SessionUser) for outcome in outcomes] == admitted
    await parts.revocations.revoke([SESSION])
    assert not isinstance(await parts.outcome(sent, allow_pending=True), SessionUser)


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


async def test_a_use_after_logout_says_who_and_when_and_once() -> None:
    """For all guards that share the list."""
    parts, issued = Parts(), int(time.time()) - 20
    other = Parts(store=parts.store)
    await parts.revocations.revoke([SESSION], at=issued + 1)
    sent = of_session(now=issued, o={"id": "org_2abc"}, act={"sub": "user_2support"})
    for asked in (parts, parts, other):
        assert await asked.outcome(bearer(sent) | {"X-Request-ID": "r-1"}) == SESSION_REVOKED
    (event,) = parts.recorder.events
    who = {"user_id": USER, "session_id": SESSION, "org_id": "org_2abc", "actor_id": "user_2support"}
    expected = who | {"auth": "verified", "reason": None, "request_id": "r-1", "issued_after_logout": False}
    expected |= {"token_issued_at": timestamp_of(issued), "logged_out_at": timestamp_of(issued + 1)}
    assert event.fields() | expected == event.fields()
    assert other.recorder.events == []


LATE = SIGN_OUT_TOLERANCE + 1


@pytest.mark.parametrize(
    ("later", "origin", "says"),
    [
        *((SIGN_OUT_TOLERANCE, ..., False), (LATE, ..., True)),
        *((LATE, -0.5, False), (LATE, LATE, True), (LATE, "1", True), (LATE, True, True)),
    ],
)
async def test_a_token_made_long_after_the_logout_is_told_apart(later: int, origin: Any, says: bool) -> None:
    """It means that Clerk never ended the session; only seconds after, it may have been about to.

    Clerk's edge gives a later ``iat``; the header's ``oiat`` is when the claims were assembled.
    """
    parts = Parts()
    signed_out_at = int(time.time()) - 30
    await parts.store.add([SESSION], at=signed_out_at, seconds=75)
    oiat = signed_out_at + origin if type(origin) in {int, float} else origin
    head = {} if origin is ... else {"oiat": oiat}
    await parts.outcome(bearer(token(claims(now=signed_out_at + later), head=header() | head)))
    assert [event.issued_after_logout for event in parts.recorder.events] == [says]


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
    counted = parts.counted()
    assert counted.pop("absent") == 2
    assert counted == dict.fromkeys(["admitted", "signed_out", "expired", "rejected", "pending", "unknown"], 1)

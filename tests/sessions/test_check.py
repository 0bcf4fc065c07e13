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
from service.sessions.refusal import (
    SESSION_PENDING,
    SESSION_REVOKED,
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
    ("headers", "reason", "verifications"),
    [
        ({}, "session-token-missing", 0),
        (bearer(FORGED), "token-invalid-signature", 3),
        (cookies("garbage", expired()), "token-expired", 6),
    ],
    ids=["nothing", "forged", "the better of two"],
)
async def test_a_token_that_does_not_count_is_refused_each_time(
    headers: dict[str, str], reason: str, verifications: int
) -> None:
    parts = Parts()
    for _ in range(3):
        outcome = await parts.outcome(headers)
        assert (outcome.status, outcome.reason) == (401, reason)
    assert parts.verifier.verifications == verifications
    assert parts.store.within == [], "only a verified token is looked up"
    assert parts.recorder.events == []


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


# --- Open tasks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "admitted", "admitted_where_pending_is"),
    [(..., True, True), ("pending", False, True), (None, False, False), (["active"], False, False)],
    ids=str,
)
async def test_a_session_with_open_tasks_is_refused_unless_it_is_allowed(
    status: object, admitted: bool, admitted_where_pending_is: bool
) -> None:
    sent = bearer(token({name: value for name, value in {**claims(), "sts": status}.items() if value is not ...}))
    parts = Parts()
    for allow_pending, expected in ((False, admitted), (True, admitted_where_pending_is)):
        outcome = await parts.outcome(sent, allow_pending=allow_pending)
        assert outcome == SESSION_PENDING if not expected else isinstance(outcome, SessionUser)
    await parts.revocations.revoke([SESSION])
    assert not isinstance(await parts.outcome(sent, allow_pending=True), SessionUser)


# --- What is remembered ----------------------------------------------------------------------------------------------


async def test_a_verified_token_is_remembered_but_looked_up() -> None:
    parts = Parts()
    sent = bearer(of_session(jti="1"))
    assert [type(await parts.outcome(sent)) for _ in range(5)] == [SessionUser] * 5
    assert (parts.verifier.verifications, len(parts.store.within)) == (1, 5)
    await parts.outcome(bearer(of_session(jti="2")))
    assert parts.verifier.verifications == 2
    await parts.revocations.revoke([SESSION])
    assert await parts.outcome(sent) == SESSION_REVOKED


# --- Signed-out sessions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    ("beside", "outcome"),
    [
        (lambda: [expired()], SESSION_REVOKED),
        (lambda: [of_session(OTHER, sts="pending")], SESSION_REVOKED),
        (lambda: [of_session(OTHER)], OTHER),
    ],
    ids=["expired", "pending", "one that counts"],
)
async def test_of_several_tokens_one_that_counts_admits(
    beside: Callable[[], list[str]], outcome: object, order: int
) -> None:
    parts = Parts()
    await parts.revocations.revoke([SESSION])
    got = await parts.outcome(cookies(*[of_session(), *beside()][::order]))
    assert outcome == (got.session_id if isinstance(got, SessionUser) else got)
    assert len(parts.recorder.events) == (outcome == SESSION_REVOKED)


@pytest.mark.parametrize("order", [1, -1])
async def test_pending_says_more_than_a_bad_token_less_than_a_good_one(order: int) -> None:
    pending = of_session(sts="pending")
    assert await Parts().outcome(cookies(*[pending, expired()][::order])) == SESSION_PENDING
    assert (await Parts().outcome(cookies(*[pending, of_session(OTHER)][::order]))).session_id == OTHER


# --- The list takes its time -----------------------------------------------------------------------------------------


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
    before = time.time()
    issued = int(before) - 20
    await parts.revocations.revoke([SESSION])
    sent = of_session(now=issued, o={"id": "org_2abc"}, act={"sub": "user_2support"})
    await parts.outcome(bearer(sent) | {"X-Request-ID": "r-1"})
    (event,) = parts.recorder.events
    line = event.fields()
    assert (line["user_id"], line["session_id"], line["org_id"]) == (USER, SESSION, "org_2abc")
    assert (line["actor_id"], line["request_id"]) == ("user_2support", "r-1")
    assert (line["auth"], line["reason"]) == ("verified", None)
    assert event.token_issued_at == timestamp_of(issued)
    assert timestamp_of(before) <= event.logged_out_at <= timestamp_of(time.time())
    assert not event.issued_after_logout


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

"""The decision itself, over real tokens and a real list."""

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import pytest

from service.clerk.errors import KeysUnavailableError
from service.clerk.keys import PemKey
from service.clerk.verdict import Auth
from service.clerk.verifier import Verifier
from service.sessions.refusal import ABSENT_REFUSED, REVOCATIONS_UNAVAILABLE, SESSION_REVOKED, Refusal
from service.sessions.check import ENDS_WITHIN, REPORT_EVERY
from service.sessions.user import SessionUser
from service.revocations.redis_commands import RedisCommands
from service.revocations.redis_store import RedisStore
from service.revocations.revocation_list import LEAST_SECONDS
from service.revocations.store import REVOCATIONS_TIMEOUT, RevocationsUnavailableError
from tests.clerk.test_bad_input import VECTORS, Vector
from tests.guard.parts import OTHER, SESSION, USER, FakeRecorder, Parts, bearer, cookies, expired, of_session
from tests.support.redis_server import RedisServer, redis_server
from tests.support.signing import ISSUER, ORIGIN, claims, pem, private_key, token


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


# --- Who is let in ---------------------------------------------------------------------------------------------------


async def test_a_token_that_counts_admits_its_user() -> None:
    issued = int(time.time())
    sent = token(claims(now=issued, o={"id": "org_2abc"}, act={"sub": "user_2support"}))
    assert await Parts().outcome(bearer(sent)) == SessionUser(USER, SESSION, "org_2abc", "user_2support", issued + 60)


async def test_a_cookie_is_as_good_as_a_header() -> None:
    assert isinstance(await Parts().outcome(cookies(of_session())), SessionUser)


@pytest.mark.parametrize(
    ("headers", "status", "reason"),
    [
        pytest.param({}, 401, "session-token-missing", id="nothing sent"),
        pytest.param({"Authorization": "Basic dTpw"}, 401, "session-token-missing", id="another scheme"),
        pytest.param(bearer("garbage"), 401, "token-invalid", id="garbage"),
        pytest.param(bearer(expired()), 401, "token-expired", id="expired"),
        pytest.param(bearer(token(key=private_key("forger"))), 401, "token-invalid-signature", id="forged"),
    ],
)
async def test_a_token_that_does_not_count_is_refused_with_the_verdicts_reason(
    headers: dict[str, str], status: int, reason: str
) -> None:
    outcome = await Parts().outcome(headers)
    assert isinstance(outcome, Refusal)
    assert (outcome.status, outcome.reason) == (status, reason)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
async def test_every_hostile_token_gets_what_its_verdict_says(vector: Vector, caplog: pytest.LogCaptureFixture) -> None:
    """Those of ``tests.clerk.test_bad_input``; the issuer is checked there."""
    parts = Parts(verifier=Verifier(PemKey(pem()), authorized_parties=[ORIGIN], issuer=ISSUER))
    outcome = await parts.outcome(raw=vector.headers)
    if vector.auth == "verified":
        assert isinstance(outcome, SessionUser)
    else:
        assert isinstance(outcome, Refusal)
        assert (outcome.status, outcome.reason) == (401, vector.reason)
    assert parts.recorder.events == []
    assert caplog.records == []


class NoKeys:
    def key_at_hand(self, kid: str) -> None:
        del kid

    async def key_for(self, kid: str, patience: float) -> Any:
        del kid, patience
        raise KeysUnavailableError


async def test_without_keys_it_cannot_be_decided_now() -> None:
    outcome = await Parts(verifier=Verifier(NoKeys())).outcome(bearer(of_session()))
    assert (outcome.status, outcome.reason, outcome.retry_after) == (503, "jwk-failed-to-load", 30)


class SlowKeys:
    """Takes all the time that it is given."""

    def __init__(self) -> None:
        self.patiences: list[float] = []

    def key_at_hand(self, kid: str) -> None:
        del kid

    async def key_for(self, kid: str, patience: float) -> Any:
        del kid
        self.patiences.append(patience)
        await asyncio.sleep(patience)
        raise KeysUnavailableError


async def test_all_tokens_of_a_request_share_one_patience() -> None:
    keys = SlowKeys()
    await Parts(verifier=Verifier(keys)).outcome(cookies(*(of_session(f"sess_{number}") for number in range(4))))
    assert len(keys.patiences) == 4
    assert sum(keys.patiences) < 0.3


# --- Signed-out sessions ---------------------------------------------------------------------------------------------


async def test_a_signed_out_session_is_refused() -> None:
    parts = Parts()
    await parts.revocations.revoke([SESSION])
    assert await parts.outcome(bearer(of_session())) == SESSION_REVOKED


async def test_a_token_that_is_remembered_is_refused_as_soon_as_its_session_is_signed_out() -> None:
    parts = Parts()
    sent = bearer(of_session())
    assert isinstance(await parts.outcome(sent), SessionUser)
    await parts.revocations.revoke([SESSION])
    assert await parts.outcome(sent) == SESSION_REVOKED
    assert parts.verifier.verifications == 1


async def test_a_token_is_not_verified_twice() -> None:
    parts = Parts()
    sent = bearer(of_session())
    assert [type(await parts.outcome(sent)) for _ in range(5)] == [SessionUser] * 5
    assert (parts.verifier.verifications, parts.store.asked) == (1, 5)


async def test_another_token_of_the_same_session_is_verified_by_itself() -> None:
    parts = Parts()
    for sent in [bearer(of_session(jti="1")), bearer(of_session(jti="2"))] * 2:
        await parts.outcome(sent)
    assert parts.verifier.verifications == 2


@pytest.mark.parametrize("sent", ["garbage", expired(), token(key=private_key("forger"))])
async def test_a_token_that_is_not_verified_is_judged_each_time_and_takes_up_no_room(sent: str) -> None:
    parts = Parts()
    for _ in range(3):
        assert isinstance(await parts.outcome(bearer(sent)), Refusal)
    assert (parts.verifier.verifications, len(parts.check._remembered)) == (3, 0)


async def test_what_cannot_be_verified_now_is_not_remembered() -> None:
    parts = Parts(verifier=Verifier(NoKeys()))
    assert isinstance(await parts.outcome(bearer(of_session())), Refusal)
    assert len(parts.check._remembered) == 0


async def test_no_request_can_change_the_user_of_the_next_one_with_the_same_token() -> None:
    parts = Parts()
    sent = bearer(of_session())
    user = await parts.outcome(sent)
    for name in ("user_id", "is_admin"):
        with pytest.raises((AttributeError, TypeError)):
            setattr(user, name, "user_2somebody_else")
    assert (await parts.outcome(sent)).user_id == USER


async def test_another_session_of_the_same_user_is_not_refused() -> None:
    parts = Parts()
    await parts.revocations.revoke([SESSION])
    assert isinstance(await parts.outcome(bearer(of_session(OTHER))), SessionUser)


async def test_a_token_that_is_not_verified_is_never_looked_up() -> None:
    parts = Parts()
    for headers in (bearer("garbage"), bearer(expired()), {}):
        await parts.outcome(headers)
    assert parts.store.asked == 0


@pytest.mark.parametrize("signed_out_first", [True, False])
async def test_of_two_sessions_the_one_that_counts_admits_and_nothing_is_reported(*, signed_out_first: bool) -> None:
    parts = Parts()
    await parts.revocations.revoke([SESSION])
    tokens = [of_session(SESSION), of_session(OTHER)][:: 1 if signed_out_first else -1]
    outcome = await parts.outcome(cookies(*tokens))
    assert outcome.session_id == OTHER
    assert parts.recorder.events == []


@pytest.mark.parametrize("other", ["garbage", expired()], ids=["garbage", "expired"])
@pytest.mark.parametrize("order", [1, -1])
async def test_signed_out_says_more_than_any_token_that_is_not_verified(other: str, order: int) -> None:
    parts = Parts()
    await parts.revocations.revoke([SESSION])
    assert await parts.outcome(cookies(*[of_session(), other][::order])) == SESSION_REVOKED


async def test_of_two_bad_tokens_the_better_one_gives_the_reason() -> None:
    for tokens in ((expired(), "garbage"), ("garbage", expired())):
        assert (await Parts().outcome(cookies(*tokens))).reason == "token-expired"


# --- The list is out of reach ----------------------------------------------------------------------------------------


async def test_closed_refuses_while_the_list_is_out_of_reach_and_admits_again_after() -> None:
    parts = Parts()
    parts.store.out_of_reach = True
    assert await parts.outcome(bearer(of_session())) == REVOCATIONS_UNAVAILABLE
    parts.store.out_of_reach = False
    assert isinstance(await parts.outcome(bearer(of_session())), SessionUser)


async def test_open_lets_pass_while_the_list_is_out_of_reach() -> None:
    parts = Parts(fail="open")
    await parts.revocations.revoke([SESSION])
    parts.store.out_of_reach = True
    assert isinstance(await parts.outcome(bearer(of_session())), SessionUser)
    parts.store.out_of_reach = False
    assert await parts.outcome(bearer(of_session())) == SESSION_REVOKED


@pytest.mark.parametrize("fail", ["closed", "open"])
async def test_a_bad_token_is_refused_as_such_also_while_the_list_is_out_of_reach(
    fail: Literal["closed", "open"],
) -> None:
    parts = Parts(fail=fail)
    parts.store.out_of_reach = True
    assert (await parts.outcome(bearer("garbage"))).reason == "token-invalid"
    assert await parts.outcome() == ABSENT_REFUSED


# --- What is reported ------------------------------------------------------------------------------------------------


async def test_a_use_after_logout_says_who_when_and_where() -> None:
    parts = Parts()
    issued = int(time.time()) - 20
    await parts.revocations.revoke([SESSION])
    sent = of_session(now=issued, o={"id": "org_2abc"}, act={"sub": "user_2support"})
    before = time.time()
    await parts.outcome(bearer(sent))
    (event,) = parts.recorder.events
    line = event.fields()
    assert (line["user_id"], line["session_id"], line["org_id"]) == (USER, SESSION, "org_2abc")
    assert (line["actor_id"], line["request_id"]) == ("user_2support", "r-1")
    assert (line["auth"], line["reason"]) == ("verified", None)
    assert event.token_issued_at == f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(issued))}.000000Z"
    assert event.logged_out_at <= time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(before + 1))
    assert not event.issued_after_logout


@pytest.mark.parametrize(
    ("later", "says"),
    [
        pytest.param(-60, False, id="made before the logout"),
        pytest.param(ENDS_WITHIN, False, id="made before Clerk can have ended it"),
        pytest.param(ENDS_WITHIN + 1, True, id="made when Clerk should have ended it"),
    ],
)
async def test_a_token_made_after_the_logout_means_that_clerk_never_ended_the_session(
    later: int, *, says: bool
) -> None:
    parts = Parts()
    issued = int(time.time()) - 5
    await parts.store.add([SESSION], at=issued - later, seconds=75)
    await parts.outcome(bearer(of_session(now=issued)))
    assert [event.issued_after_logout for event in parts.recorder.events] == [says]


async def test_a_session_is_reported_once_in_a_window_whatever_token_comes() -> None:
    parts = Parts()
    await parts.revocations.revoke([SESSION, OTHER])
    for session_id in (SESSION, OTHER, SESSION, SESSION, OTHER):
        await parts.outcome(bearer(of_session(session_id)))
    assert [event.fields()["session_id"] for event in parts.recorder.events] == [SESSION, OTHER]


async def test_two_guards_over_one_store_report_once() -> None:
    first, second = Parts(), Parts()
    second.revocations._store = first.store
    await first.revocations.revoke([SESSION])
    for parts in (first, second):
        assert await parts.outcome(bearer(of_session())) == SESSION_REVOKED
    assert (len(first.recorder.events), len(second.recorder.events)) == (1, 0)


def test_the_window_is_longer_than_a_session_is_usually_on_the_list() -> None:
    assert REPORT_EVERY >= LEAST_SECONDS


async def test_who_was_not_signed_out_is_not_reported() -> None:
    parts = Parts()
    for headers in (bearer(of_session()), bearer("garbage"), bearer(expired()), {}):
        await parts.outcome(headers)
    assert parts.recorder.events == []


async def test_a_time_that_no_calendar_knows_is_reported_as_the_nearest() -> None:
    parts = Parts()
    await parts.revocations.revoke([SESSION])
    await parts.outcome(bearer(of_session(iat=-(10**300))))
    assert parts.recorder.events[0].token_issued_at == "0001-01-01T00:00:00.000000Z"


async def test_a_recorder_that_fails_changes_no_refusal_and_is_told_without_what_was_sent(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sent = of_session()
    parts = Parts(recorder=FakeRecorder(ValueError(f"broken by {sent}")))
    await parts.revocations.revoke([SESSION])
    caplog.set_level(logging.DEBUG)
    assert await parts.outcome(bearer(sent)) == SESSION_REVOKED
    (message,) = [record.message for record in caplog.records if record.name == "service.guard"]
    assert message.startswith("a use after logout was not recorded: ValueError in parts.py:")
    assert not [part for part in sent.split(".") if part in message]


async def test_a_session_is_reported_also_where_nobody_can_say_whether_it_was(redis: RedisServer) -> None:
    """A claim that Redis took but did not answer for must not silence the event for the rest of its window."""
    commands = LateClaims(redis.url, reply_timeout=5)
    store = RedisStore(commands, timeout=5)
    await store.start()
    parts = Parts()
    parts.revocations._store = store
    await parts.revocations.revoke([SESSION])
    for _ in range(3):
        assert await parts.outcome(bearer(of_session())) == SESSION_REVOKED
    assert [event.fields()["session_id"] for event in parts.recorder.events] == [SESSION]
    assert commands.claims == 1
    await store.close()


class LateClaims(RedisCommands):
    """Redis takes a claim, and its answer is late."""

    claims = 0

    async def claim(self, claims: Sequence[tuple[str, int]]) -> list[bool]:
        self.claims += 1
        await super().claim(claims)
        raise RevocationsUnavailableError("late")


async def test_all_questions_of_a_request_share_one_patience() -> None:
    parts = Parts()
    sessions = [f"sess_{number}" for number in range(4)]
    await parts.revocations.revoke(sessions)
    parts.store.takes = 0.02
    await parts.outcome(cookies(*(of_session(session_id) for session_id in sessions)))
    assert len(parts.store.within) == 5
    assert parts.store.within[0] == REVOCATIONS_TIMEOUT
    assert parts.store.within == sorted(parts.store.within, reverse=True)
    assert parts.store.within[-1] == 0.0


# --- What is counted -------------------------------------------------------------------------------------------------


async def test_each_decision_is_counted_by_its_result() -> None:
    parts = Parts()
    await parts.revocations.revoke([OTHER])
    for headers in (bearer(of_session()), bearer(of_session(OTHER)), bearer(expired()), bearer("garbage"), {}, {}):
        await parts.outcome(headers)
    parts.store.out_of_reach = True
    await parts.outcome(bearer(of_session()))
    assert parts.counted() == {
        "admitted": 1,
        "signed_out": 1,
        "expired": 1,
        "rejected": 1,
        "absent": 2,
        "unknown": 1,
    }
    assert set(parts.counted()) <= {"admitted", "signed_out", "unknown", *(auth.value for auth in Auth)}

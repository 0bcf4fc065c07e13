"""Ending all sessions of a user, with a fake for Clerk."""

import asyncio
from collections.abc import Iterable
from itertools import count, islice
from typing import Any

import pytest

from service.clerk.backend_api import BackendApi
from service.clerk.errors import ClerkApiError, ClerkKeyRejectedError, ClerkNotFoundError, ClerkRateLimitedError
from service.clerk.sign_out import (
    CONCURRENCY,
    SignOutEverywhere,
    SignOutResult,
    StopReason,
    is_fresh,
    reverification_error,
)

OWN = "sess_0_own"
LONG = 60.0
"""Seconds: a deadline that does not pass."""


class FakeClerk(BackendApi):
    """Has sessions, and trouble where it is told to.

    Attributes:
        begins: after each list the next of these sessions begins.
        hanging: somebody waits for an answer that does not come.
        list_trouble: by how many lists came before.
        unlisted: alive, and in no list.
    """

    def __init__(self, *active: str, begins: Iterable[str] = ()) -> None:
        self.active = dict.fromkeys(active)
        self.begins = iter(begins)
        self.tried: list[str] = []
        self.lists = 0
        self.under_way = self.most_under_way = 0
        self.trouble: dict[str, Exception] = {}
        self.list_trouble: dict[int, Exception] = {}
        self.hangs: set[str] = set()
        self.hanging = asyncio.Event()
        self.only_hanging_left = asyncio.Event()
        self.ended_elsewhere: set[str] = set()
        self.answer_lost: set[str] = set()
        self.lists_what_is_over = False
        self.unlisted: set[str] = set()
        self.known = {OWN}

    async def alive_sessions(self, user_id: str) -> list[str]:
        assert user_id == "user_alice"
        self.lists += 1
        if (error := self.list_trouble.get(self.lists - 1)) is not None:
            raise error
        alive = list(self.active)
        self.active |= dict.fromkeys(islice(self.begins, 1))
        return alive

    async def revoke_session(self, session_id: str) -> bool:
        self.tried.append(session_id)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(0)  # as long as any call to Clerk, so that others begin
            if session_id in self.hangs:
                self.hanging.set()
                await asyncio.Event().wait()
            if (error := self.trouble.get(session_id)) is not None:
                raise error
        finally:
            self.under_way -= 1
        if not self.lists_what_is_over:
            self.active.pop(session_id, None)
        if self.active.keys() - {OWN} == self.hangs:
            self.only_hanging_left.set()
        if session_id in self.answer_lost:
            raise ClerkApiError("no connection (ReadError)")
        return session_id not in self.ended_elsewhere

    async def is_alive(self, session_id: str) -> bool:
        if session_id not in self.known:
            raise ClerkNotFoundError("Clerk answered with status 404")
        return session_id in self.unlisted


def several(count: int) -> list[str]:
    return [OWN, *(f"sess_{number}" for number in range(1, count))]


async def sign_out(clerk: FakeClerk, *, deadline: float = LONG) -> SignOutResult:
    return await SignOutEverywhere(clerk, "user_alice", own=OWN).run(asyncio.timeout(deadline))


async def cut_short(clerk: FakeClerk) -> SignOutResult:
    """Sign out, with the deadline in the moment in which only those are left that hang."""
    time_limit = asyncio.timeout(LONG)
    task = asyncio.create_task(SignOutEverywhere(clerk, "user_alice", own=OWN).run(time_limit))
    await clerk.only_hanging_left.wait()
    await clerk.hanging.wait()
    time_limit.reschedule(asyncio.get_running_loop().time())
    return await task


def counts(result: SignOutResult) -> tuple[StopReason, int, int]:
    """Why it stopped, how many are revoked, and how many are left."""
    return result.stop_reason, result.revoked, result.failed


COMPLETE = StopReason.COMPLETE
DOWN = ClerkApiError("Clerk answered with status 500")


@pytest.mark.parametrize("count", [1, 3, 1200])
async def test_all_sessions_are_ended_ones_own_last(count: int) -> None:
    clerk = FakeClerk(*several(count))
    result = await sign_out(clerk)
    assert counts(result) == (COMPLETE, count, 0)
    assert (set(result.over), result.succeeded) == (set(several(count)), True)
    assert (result.listed, result.problem, result.retry_after) == (True, None, None)
    assert not clerk.active
    assert len(clerk.tried) == len(set(clerk.tried)) == count
    assert clerk.tried[-1] == OWN
    assert clerk.most_under_way <= CONCURRENCY == 20


A, B = "sess_1", "sess_2"
SCENARIOS: dict[str, tuple[list[str], dict[str, Any], int, set[str]]] = {
    "none is there": ([], {}, 0, {OWN}),
    "one has ended already": (several(3), {"ended_elsewhere": {A}}, 2, {OWN, A, B}),
    "one begins meanwhile": ([OWN, A], {"begins": iter([B])}, 3, {OWN, A, B}),
    "what is revoked is still listed": (several(3), {"lists_what_is_over": True}, 3, {OWN, A, B}),
    "no list shows one's own": ([A], {"unlisted": {OWN}}, 2, {OWN, A}),
    "one is no longer listed after an error": (several(3), {"answer_lost": {A}}, 2, {OWN, A, B}),
    "only the answer about one's own is lost": (several(2), {"answer_lost": {OWN}}, 1, {OWN, A}),
    "Clerk does not know one's own": ([], {"known": set()}, 0, set()),
    "some are still listed after an error": (several(4), {"trouble": dict.fromkeys([A, B], DOWN)}, 1, {"sess_3"}),
    "one's own cannot be ended": (several(2), {"unlisted": {OWN}, "trouble": {OWN: DOWN}}, 1, {A}),
    "one's own in no list cannot be ended": ([A], {"unlisted": {OWN}, "trouble": {OWN: DOWN}}, 1, {A}),
    "one's own is said to be gone but alive": ([OWN], {"ended_elsewhere": {OWN}, "unlisted": {OWN}}, 0, set()),
    # As where something between us and Clerk lets no POST through, and answers 404.
    "one is said to be gone but listed": (several(3), {"ended_elsewhere": {A}, "lists_what_is_over": True}, 1, {B}),
    "all fail": (several(1200), {"trouble": dict.fromkeys(several(1200), DOWN)}, 0, set()),
}
"""By name: the sessions that are there, what Clerk does, how many are revoked, and which are over."""


@pytest.mark.parametrize("name", SCENARIOS)
async def test_what_has_ended_is_counted_and_what_has_not_failed(name: str) -> None:
    active, behaviour, revoked, over = SCENARIOS[name]
    clerk = FakeClerk(*active)
    vars(clerk).update(behaviour)
    result = await sign_out(clerk)
    failed = len({OWN, *active} - over)
    assert (counts(result), set(result.over)) == ((COMPLETE, revoked, failed), over)
    assert result.succeeded is (failed == 0)
    assert len(clerk.tried) == len(set(clerk.tried)), "each is tried once"
    assert OWN not in clerk.tried[:-1], "one's own is tried last"
    assert OWN not in clerk.tried or over >= {*active} - {OWN}, "and only if all others are over"
    if failed and "trouble" in behaviour:
        assert result.problem == str(DOWN)
    if "known" in behaviour:
        assert "CLERK_SECRET_KEY" in str(result.problem)


# --- It stops --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "stop_reason", "retry_after"),
    [
        (ClerkRateLimitedError("429", 7), StopReason.RATE_LIMITED, 7),
        (ClerkKeyRejectedError("401"), StopReason.KEY_REJECTED, None),
    ],
)
async def test_what_was_not_tried_has_failed(
    error: ClerkApiError, stop_reason: StopReason, retry_after: int | None
) -> None:
    sessions = several(300)
    clerk = FakeClerk(*sessions)
    clerk.trouble = dict.fromkeys(sessions, error)
    for session_id in sessions[:100]:
        del clerk.trouble[session_id]
    result = await sign_out(clerk)
    assert (result.stop_reason, result.problem, result.retry_after) == (stop_reason, str(error), retry_after)
    assert result.revoked + result.failed == 300
    assert len(clerk.tried) < result.revoked + 2 * CONCURRENCY
    assert len(result.over) == result.revoked == 300 - len(clerk.active)
    assert clerk.lists == 1
    assert OWN in clerk.active


async def test_without_a_second_list_an_error_counts_as_failed_and_over() -> None:
    clerk = FakeClerk(*several(4))
    clerk.answer_lost = {"sess_1"}
    clerk.list_trouble = {1: ClerkApiError("no connection (ConnectError)")}
    result = await sign_out(clerk)
    assert (result.stop_reason, result.revoked, result.failed) == (StopReason.UNREACHABLE, 2, 2)
    # Clerk did end it, and a repeated call would not find it: its tokens have to be refused because of this one.
    assert "sess_1" not in clerk.active
    assert set(result.over) == {"sess_1", "sess_2", "sess_3"}
    assert not result.succeeded


@pytest.mark.parametrize("hanging", [CONCURRENCY - 1, 60])
async def test_revocations_that_hang_hold_up_no_other_and_leave_no_task(hanging: int) -> None:
    before = asyncio.all_tasks()
    sessions = several(100)
    clerk = FakeClerk(*sessions)
    clerk.hangs = set(sessions[1 : hanging + 1] if hanging < CONCURRENCY else sessions[-hanging:])
    result = await cut_short(clerk)
    assert counts(result) == (StopReason.TIMEOUT, 99 - hanging, hanging + 1)
    assert result.problem == "the deadline has passed"
    # Whether Clerk ends those that it was asked for, nobody will hear; those that it was not asked for, it does not.
    assert set(result.over) == set(clerk.tried)
    assert len(result.over) > result.revoked
    assert clerk.under_way == 0
    assert asyncio.all_tasks() == before


async def test_the_deadline_holds_where_sessions_begin_without_end() -> None:
    clerk = FakeClerk(OWN, "sess_first", begins=(f"sess_{number}" for number in count()))
    assert (await sign_out(clerk, deadline=0.05)).stop_reason is StopReason.TIMEOUT


# --- Who may ask for it ----------------------------------------------------------------------------------------------

ODD: list[object] = [None, "3,-1", [3], [3, -1, 0], [3, 1.5], [True, 0], [-2, 0], [0, -2]]


@pytest.mark.parametrize("factor_ages", [[0, -1], [9, -1], [3, 9], [99, 9], [-1, 9]], ids=str)
def test_a_proof_below_the_age_is_fresh(factor_ages: object) -> None:
    assert is_fresh(factor_ages, 10)


@pytest.mark.parametrize("factor_ages", [[10, -1], [3, 10], [-1, 10], [-1, -1], *ODD], ids=str)
def test_the_second_factor_counts_where_there_is_one(factor_ages: object) -> None:
    assert not is_fresh(factor_ages, 10)


def test_the_frontend_is_told_in_clerks_form() -> None:
    metadata = {"reverification": {"level": "second_factor", "afterMinutes": 10}}
    assert reverification_error(10) == {
        "clerk_error": {"type": "forbidden", "reason": "reverification-error", "metadata": metadata}
    }

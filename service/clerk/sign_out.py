"""Ends all sessions of a user at Clerk, or all but one, and counts what came of it. Says who may ask for it.

Clerk has no call for it. So the sessions are listed and each is revoked, until the list shows none that was not tried.
Each session is tried once: a caller who wants the rest ended calls again. That is why the caller's own session is ended
last, and only when all others are over.
"""

import asyncio
from collections import Counter, deque
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

from service.clerk.errors import ClerkApiError, ClerkKeyRejectedError, ClerkNotFoundError, ClerkRateLimitedError

if TYPE_CHECKING:
    from service.clerk.backend_api import BackendApi

CONCURRENCY = 20
"""Revocations at the same time."""
_NEVER = -1
"""The age of a factor that was never verified."""


class StopReason(StrEnum):
    """Why a sign-out stopped."""

    COMPLETE = "complete"
    """Clerk's list shows no session that was not tried."""
    RATE_LIMITED = "clerk-rate-limited"
    UNREACHABLE = "clerk-unreachable"
    """Clerk could not be asked for the list."""
    KEY_REJECTED = "clerk-refuses-key"
    TIMEOUT = "clerk-timeout"
    """The deadline has passed, or the service is stopping."""


@dataclass(frozen=True, slots=True)
class SignOutResult:
    """What came of it."""

    stop_reason: StopReason
    over: tuple[str, ...] = ()
    """The sessions that have ended, now or before; without a last list, also those that may have."""
    revoked: int = 0
    """How many sessions Clerk says are revoked now. It says so to everyone who revokes the same session."""
    failed: int = 0
    """How many should have ended and are not known to have."""
    listed: bool = False
    """Clerk gave the list at least once."""
    problem: str | None = None
    """What went wrong last, in one line that quotes nobody."""
    retry_after: int | None = None
    """Seconds after which Clerk takes calls again, if it said so."""

    @property
    def succeeded(self) -> bool:
        """Nothing is left that should have ended."""
        return self.stop_reason is StopReason.COMPLETE and not self.failed


_State = Literal["alive", "unsure", "revoked", "gone"]
"""Of a session that should end. ``alive``: or not tried yet; ``unsure``: Clerk was asked to end it and has not said
that it did; ``gone``: it had ended already."""
_OVER = frozenset({"revoked", "gone"})


class SignOutEverywhere:
    """One sign-out of a user. Use each once.

    Args:
        sessions: lists and ends them.
        user_id: whose sessions.
        own: the caller's session. It is ended last, because without it nobody can ask for the rest.
        keep_own: do not end it at all.
    """

    def __init__(self, sessions: "BackendApi", user_id: str, *, own: str, keep_own: bool = False) -> None:
        self._sessions = sessions
        self._user_id = user_id
        self._own = own
        self._keep_own = keep_own
        self._states: dict[str, _State] = {}
        """Of all sessions that should end."""
        self._stopped_by: ClerkApiError | None = None
        self._problem: str | None = None

    async def run(self, time_limit: asyncio.Timeout) -> SignOutResult:
        """End the sessions within a limit not entered yet. Never raises because of Clerk, leaves no call under way."""
        try:
            async with time_limit:
                own_is_listed = await self._end_others()
                if not self._keep_own and all(self._states[one] in _OVER for one in self._states if one != self._own):
                    await self._end_own(listed=own_is_listed)
        except TimeoutError:
            self._problem = "the deadline has passed"
            return self._result(StopReason.TIMEOUT)
        except ClerkApiError as error:
            self._problem = str(error)
            if isinstance(error, ClerkRateLimitedError):
                return self._result(StopReason.RATE_LIMITED, error.retry_after)
            rejected = isinstance(error, ClerkKeyRejectedError)
            return self._result(StopReason.KEY_REJECTED if rejected else StopReason.UNREACHABLE)
        return self._result(StopReason.COMPLETE)

    async def _end_others(self) -> bool:
        """End all sessions but the caller's; return whether that one is listed."""
        while True:
            alive = await self._sessions.alive_sessions(self._user_id)
            if not self._keep_own:
                self._states.setdefault(self._own, "alive")
            new = [one for one in alive if one not in self._states and one != self._own]
            if not new:
                break
            self._states |= dict.fromkeys(new, "alive")
            await self._revoke_all(new)
        shown = set(alive)
        # The list has the last word: what it shows is not over unless Clerk said "revoked"; what it does not show is
        # over, even if the reply to its revocation was lost or an error.
        for one, state in self._states.items():
            if one != self._own and state != "revoked":
                self._states[one] = "alive" if one in shown else "gone"
        return self._own in shown

    async def _end_own(self, *, listed: bool) -> None:
        """End the caller's session. Where no list shows it, Clerk says whether it has ended or was never there."""
        if listed:
            await self._revoke_all([self._own])
            if self._states[self._own] == "revoked":
                return
        try:
            alive = await self._sessions.is_alive(self._own)
        except ClerkNotFoundError:
            # Its token proves that it was alive a minute ago, so this is another instance than the token's.
            self._problem = "Clerk has no such session; do CLERK_SECRET_KEY and the tokens belong to the same instance?"
            return
        if not alive:
            self._states[self._own] = "gone"
        elif listed:
            self._states[self._own] = "alive"
        else:
            await self._revoke_all([self._own])

    async def _revoke_all(self, session_ids: list[str]) -> None:
        """Revoke each, several at a time; after a rate limit or a rejected key the rest is not tried."""
        waiting = deque(session_ids)
        async with asyncio.TaskGroup() as workers:
            for _ in range(min(CONCURRENCY, len(session_ids))):
                workers.create_task(self._revoke_each(waiting), name="sign-out")
        if self._stopped_by is not None:
            raise self._stopped_by

    async def _revoke_each(self, waiting: deque[str]) -> None:
        while waiting:
            session_id = waiting.popleft()
            self._states[session_id] = "unsure"
            try:
                revoked = await self._sessions.revoke_session(session_id)
            except (ClerkRateLimitedError, ClerkKeyRejectedError) as error:
                self._states[session_id] = "alive"
                self._stopped_by = error
                waiting.clear()
            except ClerkApiError as error:
                self._problem = str(error)  # the next list tells whether it is over
            else:
                self._states[session_id] = "revoked" if revoked else "gone"

    def _result(self, stop_reason: StopReason, retry_after: int | None = None) -> SignOutResult:
        count = Counter(self._states.values())
        # Without a last list, a repeated call would not find those that did end, so they count as over.
        over = _OVER if stop_reason is StopReason.COMPLETE else _OVER | {"unsure"}
        return SignOutResult(
            stop_reason,
            over=tuple(one for one, state in self._states.items() if state in over),
            revoked=count["revoked"],
            failed=count["alive"] + count["unsure"],
            listed=stop_reason is StopReason.COMPLETE or bool(self._states),
            problem=self._problem,
            retry_after=retry_after,
        )


def is_fresh(factor_ages: object, max_age: int) -> bool:
    """Say whether the user proved lately who they are: by the second factor, or by the first where there is no second.

    The rule is that of Clerk's ``has({reverification})`` for the level ``second_factor`` (clerk/javascript,
    authorization.ts); OWASP ASVS 5.0, 7.5.2, asks for it before a user ends sessions.

    Args:
        factor_ages: a token's ``fva``: minutes since each factor was verified, -1 for never. Where it is odd: no.
        max_age: in minutes.
    """
    # Not isinstance: bool is an int.
    if not isinstance(factor_ages, list) or [type(age) for age in factor_ages] != [int, int]:
        return False
    first, second = map(int, factor_ages)
    age = first if second == _NEVER else second
    return min(first, second) >= _NEVER and _NEVER < age < max_age


def reverification_error(max_age: int) -> dict[str, Any]:
    """Return Clerk's ``reverificationError()``, for which ``useReverification()`` looks; the age is in minutes."""
    metadata = {"reverification": {"level": "second_factor", "afterMinutes": max_age}}
    return {"clerk_error": {"type": "forbidden", "reason": "reverification-error", "metadata": metadata}}

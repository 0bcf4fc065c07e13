"""Ends all sessions of a user, or all but one, and counts truthfully what came of it.

Clerk has no call for it, so the sessions are listed, each is revoked, and the list is asked for again until it shows
none that was not tried. Each session is tried once; whoever wants the rest ended calls again, and so the session of who
asks is ended alone at the very end, when all others are over.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import Protocol

from service.clerk.errors import ClerkApiError, ClerkNotFoundError, ClerkRateLimitedError, ClerkRefusesKeyError

PAGE_SIZE = 500
"""Sessions in one list: the most that Clerk gives, so that one call sees all sessions of nearly every user."""
DEADLINE = 9.5
"""Seconds for all of it, so that the answer is there after 10: verifying comes before it, recording after it."""
CONCURRENCY = 20
"""Revocations at the same time: as many as Clerk allows a production instance in 10 s (1,000) take 5 s at 100 ms."""


class Sessions(Protocol):
    """What is needed of Clerk's Backend API; see ``BackendApi``."""

    async def active_sessions(self, user_id: str, *, offset: int = 0) -> list[str]:
        """Give at most 500 ids of active sessions; fewer when there are no more."""
        ...

    async def revoke_session(self, session_id: str) -> bool:
        """End a session; tell whether Clerk says that it is revoked now, and not ended in another way before."""
        ...

    async def is_alive(self, session_id: str) -> bool:
        """Tell whether a session has not ended; raises ``ClerkNotFoundError`` where Clerk has no such session."""
        ...


class End(StrEnum):
    """Why it ended."""

    COMPLETE = "complete"
    """Clerk's list shows no session that was not tried."""
    RATE_LIMITED = "rate-limited"
    """Clerk takes no more calls for now."""
    UNREACHABLE = "unreachable"
    """Clerk could not be asked for the list."""
    KEY_REFUSED = "key-refused"
    """Clerk does not accept the secret key."""
    OUT_OF_TIME = "out-of-time"
    """The deadline passed, or the service is being stopped."""


@dataclass(frozen=True, slots=True)
class SignedOut:
    """What came of it.

    Attributes:
        end: why it ended.
        over: the sessions that have ended, because of this or before; also those of which Clerk did not say so, and was
            not asked again.
        revoked: of how many sessions Clerk says that they are revoked now. It says the same to each who revokes one, so
            two sign-outs at the same moment in two processes may both count one.
        failed: how many sessions should have ended, and are not known to have: those that were listed, and that of who
            asks.
        listed: Clerk gave the list at least once.
        problem: what went wrong last, in one line that quotes nobody; None where all went well.
        retry_after: seconds after which Clerk takes calls again; None unless it said so.
    """

    end: End
    over: tuple[str, ...] = ()
    revoked: int = 0
    failed: int = 0
    listed: bool = False
    problem: str | None = None
    retry_after: int | None = None

    @property
    def succeeded(self) -> bool:
        """Nothing is left that should have ended."""
        return self.end is End.COMPLETE and not self.failed


class _Is(Enum):
    """What is known of a session that should end."""

    LEFT = auto()
    """It is alive, or nobody has asked yet."""
    UNSURE = auto()
    """Clerk was asked to end it, and has not said that it did."""
    REVOKED = auto()
    GONE = auto()
    """It had ended already."""


class SignOut:
    """One sign-out of a user. Use each once.

    Args:
        sessions: lists and ends them.
        user_id: whose sessions.
        own: the session of who asks. It is ended last and only when all others are over, because without it nobody can
            ask for the rest.
        keep_own: it is not ended at all.
        deadline: seconds for all of it.
    """

    def __init__(
        self, sessions: Sessions, user_id: str, *, own: str, keep_own: bool = False, deadline: float = DEADLINE
    ) -> None:
        self._sessions = sessions
        self._user_id = user_id
        self._own = own
        self._keep_own = keep_own
        self._deadline = deadline
        self._timeout: asyncio.Timeout | None = None
        self._listed = False
        self._known: dict[str, _Is] = {}
        """All that should end."""
        self._stopped_by: ClerkApiError | None = None
        self._problem: str | None = None

    async def run(self) -> SignedOut:
        """Do it. Never raises because of Clerk, and leaves no call under way."""
        try:
            async with asyncio.timeout(self._deadline) as self._timeout:
                own_is_listed = await self._end_others()
                if not self._keep_own and self._all_others_are_over():
                    await self._end_own(listed=own_is_listed)
        except TimeoutError:
            self._problem = "no time was left"
            return self._outcome(End.OUT_OF_TIME)
        except ClerkApiError as error:
            self._problem = str(error)
            if isinstance(error, ClerkRateLimitedError):
                return self._outcome(End.RATE_LIMITED, error.retry_after)
            return self._outcome(End.KEY_REFUSED if isinstance(error, ClerkRefusesKeyError) else End.UNREACHABLE)
        return self._outcome(End.COMPLETE)

    def cut_short(self, within: float = 0.0) -> None:
        """Have the deadline pass sooner.

        Args:
            within: seconds from now, or from the beginning where it has not begun.
        """
        self._deadline = min(self._deadline, within)
        if self._timeout is not None:
            until = asyncio.get_running_loop().time() + within
            with suppress(RuntimeError):  # asyncio's, about a deadline that has passed or is not needed any more
                self._timeout.reschedule(min(until, self._timeout.when() or until))

    async def _end_others(self) -> bool:
        """End all sessions but that of who asks; tell whether that one is listed."""
        shown: set[str] = set()
        offset = 0
        while True:
            page = await self._sessions.active_sessions(self._user_id, offset=offset)
            if not self._listed and not self._keep_own:
                self._known[self._own] = _Is.LEFT
            self._listed = True
            new = [one for one in page if one not in self._known and one != self._own]
            if new:
                self._known |= dict.fromkeys(new, _Is.LEFT)
                await self._revoke_all(iter(new))
                # What was revoked shifts the rest, so the list begins anew.
                offset, shown = 0, set()
                continue
            moves_on = not shown.issuperset(page)
            shown.update(page)
            if len(page) < PAGE_SIZE:
                break
            if not moves_on:
                raise ClerkApiError("the list of sessions has no end")
            offset += PAGE_SIZE
        # The list has the last word: what it shows is not over, whatever the call to end it was answered, unless that
        # was "revoked"; what it does not show is over, also where that answer was lost or an error.
        for one, known in self._known.items():
            if one != self._own and known is not _Is.REVOKED:
                self._known[one] = _Is.LEFT if one in shown else _Is.GONE
        return self._own in shown

    def _all_others_are_over(self) -> bool:
        return all(known in {_Is.REVOKED, _Is.GONE} for one, known in self._known.items() if one != self._own)

    async def _end_own(self, *, listed: bool) -> None:
        """End the session of who asks; one with open tasks (``pending``) is alive although no list shows it."""
        if listed:
            await self._revoke_all(iter([self._own]))
            if self._known[self._own] is _Is.REVOKED:
                return
        try:
            alive = await self._sessions.is_alive(self._own)
        except ClerkNotFoundError:
            # It was alive a minute ago, its token proves that; so this is not the instance that the token is from.
            self._problem = "Clerk has no such session; is CLERK_SECRET_KEY that of another instance than the tokens?"
            return
        if not alive:
            self._known[self._own] = _Is.GONE
        elif listed:
            self._known[self._own] = _Is.LEFT
        else:
            await self._revoke_all(iter([self._own]))

    async def _revoke_all(self, waiting: Iterator[str]) -> None:
        """Revoke each, several at a time.

        Raises:
            ClerkRateLimitedError: and the rest was not tried.
            ClerkRefusesKeyError: likewise.
        """

        async def work() -> None:
            for session_id in waiting:
                if self._stopped_by is not None:
                    break
                await self._revoke(session_id)

        async with asyncio.TaskGroup() as workers:
            for _ in range(CONCURRENCY):
                workers.create_task(work(), name="sign-out")
        if self._stopped_by is not None:
            raise self._stopped_by

    async def _revoke(self, session_id: str) -> None:
        self._known[session_id] = _Is.UNSURE
        try:
            revoked = await self._sessions.revoke_session(session_id)
        except (ClerkRateLimitedError, ClerkRefusesKeyError) as error:
            self._known[session_id] = _Is.LEFT
            self._stopped_by = error
        except ClerkApiError as error:
            self._problem = str(error)  # the next list tells whether it is over
        else:
            self._known[session_id] = _Is.REVOKED if revoked else _Is.GONE

    def _outcome(self, end: End, retry_after: int | None = None) -> SignedOut:
        count = Counter(self._known.values())
        over = {_Is.REVOKED, _Is.GONE}
        if end is not End.COMPLETE:
            # A repeated call would not find those that did end, so their tokens have to be refused because of this one.
            over.add(_Is.UNSURE)
        return SignedOut(
            end,
            over=tuple(one for one, known in self._known.items() if known in over),
            revoked=count[_Is.REVOKED],
            failed=count[_Is.LEFT] + count[_Is.UNSURE],
            listed=self._listed,
            problem=self._problem,
            retry_after=retry_after,
        )

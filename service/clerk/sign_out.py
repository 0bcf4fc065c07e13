"""Ends all sessions of a user, or all but one, and counts truthfully what came of it.

Clerk has no call for it, so the sessions are listed, each is revoked, and the list is asked for again until it shows
none that was not tried. Each session is tried once; whoever wants the rest ended calls again.
"""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from service.clerk.backend_api import PAGE_SIZE
from service.clerk.errors import ClerkApiError, ClerkNotFoundError, ClerkRateLimitedError, ClerkRefusesKeyError

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
        """End a session; tell whether this call did."""
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
        revoked: how many sessions Clerk ended because of this.
        failed: how many sessions were listed, should have ended, and are not known to have.
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


class SignOut:
    """One sign-out of a user. Use each once.

    Args:
        sessions: lists and ends them.
        user_id: whose sessions.
        own: the session of who asks. It is ended last, because without it nobody can ask for the rest.
        keep_own: it is not ended at all.
        deadline: seconds for all of it.
    """

    def __init__(
        self, sessions: Sessions, user_id: str, *, own: str, keep_own: bool = False, deadline: float = DEADLINE
    ) -> None:
        self._sessions = sessions
        self._user_id = user_id
        self._own = own
        self._kept = {own} if keep_own else set()
        self._deadline = deadline
        self._timeout: asyncio.Timeout | None = None
        self._listed = False
        self._found: set[str] = set()
        """All that should end."""
        self._revoked: set[str] = set()
        self._gone: set[str] = set()
        self._not_known: set[str] = set()
        """Those that Clerk says it does not have."""
        self._unsure: set[str] = set()
        """Those that Clerk was asked to end, and has not said whether it did."""
        self._stopped_by: ClerkApiError | None = None
        self._problem: str | None = None

    async def run(self) -> SignedOut:
        """Do it. Never raises because of Clerk, and leaves no call under way."""
        try:
            async with asyncio.timeout(self._deadline) as self._timeout:
                await self._end_all()
        except TimeoutError:
            self._problem = "no time was left"
            return self._outcome(End.OUT_OF_TIME)
        except ClerkApiError as error:
            self._problem = str(error)
            if isinstance(error, ClerkRateLimitedError):
                return self._outcome(End.RATE_LIMITED, error.retry_after)
            return self._outcome(End.KEY_REFUSED if isinstance(error, ClerkRefusesKeyError) else End.UNREACHABLE)
        return self._outcome(End.COMPLETE)

    def cut_short(self) -> None:
        """Have the deadline pass now."""
        self._deadline = 0.0
        if self._timeout is not None:
            with suppress(RuntimeError):  # asyncio's, about a deadline that has passed or is not needed any more
                self._timeout.reschedule(asyncio.get_running_loop().time())

    async def _end_all(self) -> None:
        shown: set[str] = set()
        offset = 0
        while True:
            page = await self._sessions.active_sessions(self._user_id, offset=offset)
            self._listed = True
            if new := set(page) - self._found - self._kept:
                self._found |= new
                own_last = sorted(new, key=lambda session_id: session_id == self._own)
                await self._revoke_all(iter(own_last))
                # What was revoked shifts the rest, so the list begins anew.
                offset, shown = 0, set()
            else:
                moves_on = not shown.issuperset(page)
                shown.update(page)
                if len(page) < PAGE_SIZE or not moves_on:
                    break
                offset += PAGE_SIZE
        if self._own not in self._found | self._kept:
            await self._end_own()
        # The list has the last word: what it shows is not over, whatever the call to end it was answered; what it does
        # not show is, also where that answer was lost or an error.
        self._gone = self._found - self._revoked - shown - self._not_known

    async def _end_own(self) -> None:
        """End the session of who asks although no list shows it: one with open tasks (``pending``) is in none."""
        self._found.add(self._own)
        try:
            alive = await self._sessions.is_alive(self._own)
        except ClerkNotFoundError:
            # It was alive a minute ago, its token proves that; so this is not the instance that the token is from.
            self._not_known.add(self._own)
            self._problem = "Clerk has no such session; is CLERK_SECRET_KEY that of another instance than the tokens?"
            return
        if alive:
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
        self._unsure.add(session_id)
        try:
            ended = await self._sessions.revoke_session(session_id)
        except (ClerkRateLimitedError, ClerkRefusesKeyError) as error:
            self._unsure.discard(session_id)
            self._stopped_by = error
        except ClerkApiError as error:
            self._problem = str(error)  # the next list tells whether it is over
        else:
            self._unsure.discard(session_id)
            (self._revoked if ended else self._gone).add(session_id)

    def _outcome(self, end: End, retry_after: int | None = None) -> SignedOut:
        over = self._revoked | self._gone
        failed = len(self._found - over)
        if end is not End.COMPLETE:
            # A repeated call would not find those that did end, so their tokens have to be refused because of this one.
            over |= self._unsure
        return SignedOut(end, tuple(over), len(self._revoked), failed, self._listed, self._problem, retry_after)

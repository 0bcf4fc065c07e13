"""The revocation list: which sessions are signed out, for as long as a token of theirs could still pass.

It is keyed on the session, never on the token: a session has a new token every minute. Clerk ends the session; this
list covers the minute in which the tokens that Clerk has handed out already would still verify.
"""

import math
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from service.telemetry.metrics import Metrics

REVOCATIONS_TIMEOUT = 0.1
"""Seconds in which a store answers. A request that asks several times gives this much to all of them together."""
LEAST_SECONDS = 75
"""Clerk's session tokens live 60 s, clocks may differ by 5 s, and a token may have been handed out just now."""
MOST_SECONDS = 24 * 3600


class RevocationsUnavailableError(Exception):
    """The store could not be asked, or did not answer in time. Its text is one line without a secret."""


class RevocationStore(Protocol):
    """Keeps, for each signed-out session, when that was; forgets it when its time is over.

    ``add`` and ``find`` raise ``RevocationsUnavailableError`` after ``REVOCATIONS_TIMEOUT``, or ``within`` seconds.
    """

    @property
    def problem(self) -> str | None:
        """Why it cannot be used at the moment, in one line without a secret; None while it can. Asks nobody."""
        ...

    async def add(self, session_ids: Sequence[str], *, at: float, seconds: int) -> None:
        """Put sessions on the list; one that is on it already keeps the earlier ``at`` and the later end.

        Args:
            session_ids: Clerk's ids, 1-128 visible ASCII characters each.
            at: when they were signed out, in seconds since 1970.
            seconds: how long from now they are kept, at least 1.
        """
        ...

    async def find(self, session_id: str, *, within: float | None = None) -> float | None:
        """Give when the session was signed out, in seconds since 1970, or None where it is not on the list."""
        ...

    async def claim(self, session_id: str, *, seconds: int, within: float | None = None) -> bool:
        """Say whether this is the first claim for the session within so many seconds, over all who share the store.

        Where they cannot be asked in time, it is the first of this process: better claimed twice than by nobody.
        """
        ...

    async def close(self) -> None:
        """Let go of what it holds."""
        ...


class RevocationList:
    """The list, over a store.

    Args:
        store: keeps it.
        metrics: counts what is put on it.
        clock: seconds since 1970.
    """

    def __init__(
        self, store: RevocationStore, metrics: Metrics | None = None, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._clock = clock
        self._longest = LEAST_SECONDS
        """The longest lifetime of a token seen so far, for those who know of none, as a webhook."""
        revoked = (metrics or Metrics()).revocations
        self._ok, self._failed = revoked.labels("ok"), revoked.labels("failed")
        self.signed_out_at = store.find
        self.is_first_report = store.claim

    @property
    def problem(self) -> str | None:
        """Why it cannot be used at the moment, in one line; None while it can."""
        return self._store.problem

    async def revoke(
        self, session_ids: Sequence[str], *, at: float | None = None, token_lifetime: float | None = None
    ) -> bool:
        """Put sessions on the list, until no token of theirs can pass any longer: at least 75 s, at most 24 h.

        Args:
            session_ids: the sessions.
            at: when they were signed out, in seconds since 1970; now where that is later, or not known.
            token_lifetime: seconds that a token of theirs that was made just now can pass, leeway included; None for
                the longest seen so far.

        Returns:
            Whether they are on it for everybody who shares the store. An unavailable store raises nothing: who signs
            somebody out has done so either way. The store tells of the outage, and brings them there after it.
        """
        if token_lifetime is None:
            seconds = self._longest
        elif token_lifetime <= LEAST_SECONDS:
            seconds = LEAST_SECONDS
        else:
            # Rounded up: a token must not pass in the rest of its last second.
            seconds = math.ceil(min(token_lifetime, MOST_SECONDS))
            self._longest = max(self._longest, seconds)
        now = self._clock()
        try:
            await self._store.add(session_ids, at=now if at is None else min(at, now), seconds=seconds)
        except RevocationsUnavailableError:
            self._failed.inc(len(session_ids))
            return False
        self._ok.inc(len(session_ids))
        return True

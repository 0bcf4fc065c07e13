"""The revocation list: which sessions are signed out, for as long as a token of theirs could still pass.

It is keyed on the session, never on the token: a session has a new token every minute. Clerk ends the session; this
list covers the minute in which the tokens that Clerk has handed out already would still verify.
"""

import math
import time
from collections.abc import Callable, Sequence

from service.revocations.store import RevocationStore, RevocationsUnavailableError
from service.telemetry.metrics import Metrics

LEAST_SECONDS = 75
"""Clerk's session tokens live 60 s, clocks may differ by 5 s, and a token may have been handed out just now."""
MOST_SECONDS = 24 * 3600


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
        """The longest lifetime of a token that was told of, rounded up, for those who tell of none, as a webhook."""
        revoked = (metrics or Metrics()).revocations
        self._ok, self._failed = revoked.labels("ok"), revoked.labels("failed")

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
                the longest that was told of before.

        Returns:
            Whether they are on it for everybody who shares the store. Never raises where the store is unavailable: who
            signs somebody out has done so either way. The store tells of the outage, and brings them there after it.
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

    async def signed_out_at(self, session_id: str, *, within: float | None = None) -> float | None:
        """Give when a session was signed out, in seconds since 1970, or None where it is not on the list.

        Args:
            session_id: the session.
            within: seconds in which the answer must be there, where they are less than 100 ms.

        Raises:
            RevocationsUnavailableError: nobody can say.
        """
        return await self._store.find(session_id, within=within)

    async def is_first_report(self, session_id: str, *, seconds: int, within: float | None = None) -> bool:
        """Say whether nobody has reported this session within so many seconds.

        Where the others cannot be asked in time, what this process has reported decides.

        Args:
            session_id: the session.
            seconds: the window.
            within: seconds in which the answer must be there, where they are less than 100 ms.
        """
        return await self._store.claim(session_id, seconds=seconds, within=within)

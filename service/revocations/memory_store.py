"""The revocation list of one process."""

import logging
import time
from collections.abc import Callable, Sequence

from service.revocations.expiring_dict import ExpiringDict

logger = logging.getLogger("service.revocations")

MAX_SESSIONS = 100_000
"""With sessions that are kept for 75 s that is 1,300 logouts per second."""


class MemoryStore:
    """Keeps the list in memory; nobody else sees it, and it ends with the process.

    Args:
        max_sessions: how many it keeps, and as many claims. When it is full, the session that ends soonest goes.
        clock: seconds that never go back.
        on_dropped: called for each session that had to go before its time.
    """

    problem: str | None = None

    def __init__(
        self,
        *,
        max_sessions: int = MAX_SESSIONS,
        clock: Callable[[], float] = time.monotonic,
        on_dropped: Callable[[], object] = lambda: None,
    ) -> None:
        self._max_sessions = max_sessions
        self._clock = clock
        self._on_dropped = on_dropped
        self._was_full = False
        self._signed_out: ExpiringDict[float] = ExpiringDict(max_sessions, clock=clock, on_dropped=self._dropped)
        self._claimed: ExpiringDict[None] = ExpiringDict(max_sessions, clock=clock)

    async def add(self, session_ids: Sequence[str], *, at: float, seconds: float) -> None:
        """Put sessions on the list; see ``RevocationStore``."""
        until = self._clock() + seconds
        for session_id in session_ids:
            before = self._signed_out.get(session_id)
            if before is None:
                self._signed_out.put(session_id, at, until)
            else:
                self._signed_out.put(session_id, min(before[0], at), max(before[1], until))

    async def find(self, session_id: str, *, within: float | None = None) -> float | None:
        """Give when the session was signed out; see ``RevocationStore``."""
        del within  # it never waits
        entry = self._signed_out.get(session_id)
        return None if entry is None else entry[0]

    async def claim(self, session_id: str, *, seconds: int, within: float | None = None) -> bool:
        """Say whether this is the first claim; see ``RevocationStore``."""
        del within
        if self.is_claimed(session_id):
            return False
        self._claimed.put(session_id, None, self._clock() + seconds)
        return True

    async def close(self) -> None:
        """See ``RevocationStore``: there is nothing to close."""

    def is_claimed(self, session_id: str) -> bool:
        """Say whether there is a claim, without making one."""
        return self._claimed.get(session_id) is not None

    def session_ids(self) -> list[str]:
        """Give all sessions on the list; some of them may have ended."""
        return self._signed_out.keys()

    def entry(self, session_id: str) -> tuple[float, float] | None:
        """Give when the session was signed out, and for how many seconds more it is kept; None if it is not here."""
        entry = self._signed_out.get(session_id)
        return None if entry is None else (entry[0], entry[1] - self._clock())

    def _dropped(self) -> None:
        self._on_dropped()
        if not self._was_full:
            self._was_full = True
            logger.error(
                "the revocation list of this process is full (%s sessions): those that end soonest are forgotten "
                "before their time, and their tokens pass for the rest of it",
                f"{self._max_sessions:,}",
            )

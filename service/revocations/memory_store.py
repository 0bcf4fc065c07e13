"""The revocation list of one process."""

import logging
import time
from collections.abc import Callable, Sequence

from service.revocations.expiring import Expiring

logger = logging.getLogger("service.revocations")

MOST_SESSIONS = 100_000
"""About 28 MB (280 bytes each). With sessions that are kept for 75 s that is 1,300 logouts per second."""


class MemoryStore:
    """Keeps the list in memory; nobody else sees it, and it ends with the process.

    Args:
        most: sessions that it keeps, and as many claims. When it is full, the session whose time ends soonest goes.
        clock: seconds that never go back.
        on_dropped: called for each session that had to go before its time.
    """

    problem: str | None = None

    def __init__(
        self,
        *,
        most: int = MOST_SESSIONS,
        clock: Callable[[], float] = time.monotonic,
        on_dropped: Callable[[], object] = lambda: None,
    ) -> None:
        self._most = most
        self._clock = clock
        self._on_dropped = on_dropped
        self._told_that_full = False
        self._signed_out: Expiring[float] = Expiring(most, clock=clock, on_dropped=self._dropped)
        self._claimed: Expiring[None] = Expiring(most, clock=clock)

    def __len__(self) -> int:
        return len(self._signed_out)

    async def add(self, session_ids: Sequence[str], *, at: float, seconds: int) -> None:
        """Put sessions on the list; see ``RevocationStore``."""
        until = self._clock() + seconds
        for session_id in session_ids:
            if (known := self._signed_out.add(session_id, at, until)) is not None:
                self._signed_out.put(session_id, min(known[0], at), max(known[1], until))

    async def find(self, session_id: str, *, within: float | None = None) -> float | None:
        """Give when the session was signed out; see ``RevocationStore``."""
        del within  # it never waits
        entry = self._signed_out.get(session_id)
        return None if entry is None else entry[0]

    async def claim(self, session_id: str, *, seconds: float, within: float | None = None) -> bool:
        """Say whether this is the first claim; see ``RevocationStore``."""
        del within
        return self._claimed.add(session_id, None, self._clock() + seconds) is None

    def unclaim(self, session_id: str) -> None:
        """Forget a claim."""
        self._claimed.remove(session_id)

    async def close(self) -> None:
        """Forget everything."""
        self._signed_out.clear()
        self._claimed.clear()

    def session_ids(self) -> list[str]:
        """Give all sessions on the list, perhaps with some whose time is over."""
        return self._signed_out.keys()

    def entry(self, session_id: str) -> tuple[float, float] | None:
        """Give when the session was signed out, and for how many seconds more it is kept; None if it is not here."""
        entry = self._signed_out.get(session_id)
        return None if entry is None else (entry[0], entry[1] - self._clock())

    def _dropped(self) -> None:
        self._on_dropped()
        if not self._told_that_full:
            self._told_that_full = True
            logger.error(
                "the revocation list of this process is full (%s sessions): those that end soonest are forgotten "
                "before their time, and their tokens pass for the rest of it",
                f"{self._most:,}",
            )

"""The revocation list of one process, and the bounded dictionary that it is kept in."""

import heapq
import logging
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

logger = logging.getLogger("service.revocations")

MAX_SESSIONS = 100_000
"""With sessions that are kept for 75 s that is 1,300 logouts per second."""
MAX_STEPS = 100
"""Entries that one call looks at to make room: so few that the event loop is never held up."""

Value = TypeVar("Value")


class ExpiringDict(Generic[Value]):
    """A dictionary whose entries end. When it is full, the entry that ends soonest makes room.

    Args:
        max_size: entries that it holds.
        clock: seconds that never go back.
        on_dropped: called for each entry that had to go before its time.
    """

    def __init__(
        self, max_size: int, *, clock: Callable[[], float], on_dropped: Callable[[], object] = lambda: None
    ) -> None:
        self._max_size = max_size
        self._clock = clock
        self._on_dropped = on_dropped
        self._entries: dict[str, tuple[Value, float]] = {}
        self._ends: list[tuple[float, str]] = []
        """A heap with one end for each key; where the end was moved since, it is set right when it comes up."""

    def get(self, key: str) -> tuple[Value, float] | None:
        """Give the value and its end by the clock, while it lasts."""
        entry = self._entries.get(key)
        return entry if entry is not None and self._clock() < entry[1] else None

    def put(self, key: str, value: Value, until: float) -> None:
        """Put an entry in, or in place of the one with this key, which must not end later."""
        is_full = len(self._entries) >= self._max_size and key not in self._entries
        if self._ends and (is_full or self._ends[0][0] <= self._clock()):
            self._make_room(is_full=is_full)
        if key not in self._entries:
            heapq.heappush(self._ends, (until, key))
        self._entries[key] = value, until

    def keys(self) -> list[str]:
        """Give all keys; some of them may have ended."""
        return list(self._entries)

    def _make_room(self, *, is_full: bool) -> None:
        """Forget what has ended, and if it is full the entry that ends soonest."""
        now = self._clock()
        for _ in range(MAX_STEPS):
            if not self._ends or (now < self._ends[0][0] and not (is_full and len(self._entries) >= self._max_size)):
                return
            end, key = self._ends[0]
            moved_to = self._entries[key][1]
            if moved_to > end:
                heapq.heapreplace(self._ends, (moved_to, key))
                continue
            heapq.heappop(self._ends)
            del self._entries[key]
            if now < end:
                self._on_dropped()


class MemoryStore:
    """A ``RevocationStore`` in memory: nobody else sees it, and it ends with the process.

    Args:
        max_sessions: how many it keeps, and as many claims.
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
        """Put sessions on the list."""
        until = self._clock() + seconds
        for session_id in session_ids:
            before = self._signed_out.get(session_id)
            if before is None:
                self._signed_out.put(session_id, at, until)
            else:
                self._signed_out.put(session_id, min(before[0], at), max(before[1], until))

    async def find(self, session_id: str, *, within: float | None = None) -> float | None:  # noqa: ARG002 - never waits
        """Give when the session was signed out."""
        entry = self._signed_out.get(session_id)
        return None if entry is None else entry[0]

    async def claim(self, session_id: str, *, seconds: int, within: float | None = None) -> bool:  # noqa: ARG002
        """Say whether this is the first claim."""
        if self.is_claimed(session_id):
            return False
        self._claimed.put(session_id, None, self._clock() + seconds)
        return True

    async def close(self) -> None:
        """Close nothing."""

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

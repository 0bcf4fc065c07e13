"""A bounded dictionary whose entries end."""

import heapq
import math
import time
from collections.abc import Callable
from typing import Generic, TypeVar

FORGOTTEN_PER_CALL = 2
"""Entries that one call lets go of: more than it adds, and so few that the event loop is never held up."""

Value = TypeVar("Value")


class ExpiringDict(Generic[Value]):
    """The dictionary. When it is full, the entry that ends soonest makes room.

    Args:
        max_size: entries that it holds. An entry whose end is moved counts twice until its first end.
        clock: seconds that never go back.
        on_dropped: called for each entry that had to go before its time.
    """

    def __init__(
        self,
        max_size: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        on_dropped: Callable[[], object] = lambda: None,
    ) -> None:
        self._max_size = max_size
        self._clock = clock
        self._on_dropped = on_dropped
        self._entries: dict[str, tuple[Value, int]] = {}
        self._ends: list[tuple[int, str]] = []
        """A heap of all ends with their keys; those that were moved since are skipped when they come up."""

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> tuple[Value, int] | None:
        """Give the value and its end by the clock, while it lasts."""
        entry = self._entries.get(key)
        return entry if entry is not None and self._clock() < entry[1] else None

    def put(self, key: str, value: Value, until: float) -> None:
        """Put an entry in, or in place of the one with this key.

        Args:
            key: of the entry.
            value: of the entry.
            until: its end by the clock, rounded up to a second, so that moving it again and again takes little room.
        """
        now, end = self._clock(), math.ceil(until)
        for _ in range(FORGOTTEN_PER_CALL):
            if self._ends and self._ends[0][0] <= now:
                self._forget_next(now)
        before = self._entries.get(key)
        if before is None or before[1] != end:
            while len(self._ends) >= self._max_size:
                self._forget_next(now)
            heapq.heappush(self._ends, (end, key))
        self._entries[key] = value, end

    def keys(self) -> list[str]:
        """Give all keys; some of them may have ended."""
        return list(self._entries)

    def _forget_next(self, now: float) -> None:
        """Forget the entry that ends soonest, or what is left of one that was moved."""
        end, key = heapq.heappop(self._ends)
        entry = self._entries.get(key)
        if entry is not None and entry[1] == end:
            del self._entries[key]
            if now < end:
                self._on_dropped()

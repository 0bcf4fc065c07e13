"""A bounded dictionary whose entries end."""

import heapq
import time
from collections.abc import Callable
from typing import Generic, TypeVar

MAX_STEPS = 100
"""Entries that one call looks at to make room: so few that the event loop is never held up."""

Value = TypeVar("Value")


class ExpiringDict(Generic[Value]):
    """The dictionary. When it is full, the entry that ends soonest makes room.

    Args:
        max_size: entries that it holds.
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
        self._entries: dict[str, tuple[Value, float]] = {}
        self._ends: list[tuple[float, str]] = []
        """A heap with one end for each key; where the end was moved since, it is set right when it comes up."""

    def get(self, key: str) -> tuple[Value, float] | None:
        """Give the value and its end by the clock, while it lasts."""
        entry = self._entries.get(key)
        return entry if entry is not None and self._clock() < entry[1] else None

    def put(self, key: str, value: Value, until: float) -> None:
        """Put an entry in, or in place of the one with this key, which must not end later.

        Args:
            key: of the entry.
            value: of the entry.
            until: its end by the clock.
        """
        now = self._clock()
        for _ in range(MAX_STEPS):
            is_full = len(self._entries) >= self._max_size and key not in self._entries
            if not self._ends or (now < self._ends[0][0] and not is_full):
                break
            self._forget_first(now)
        if key not in self._entries:
            heapq.heappush(self._ends, (until, key))
        self._entries[key] = value, until

    def keys(self) -> list[str]:
        """Give all keys; some of them may have ended."""
        return list(self._entries)

    def _forget_first(self, now: float) -> None:
        """Forget the entry that ends soonest, unless its end was moved."""
        end, key = self._ends[0]
        moved_to = self._entries[key][1]
        if moved_to > end:
            heapq.heapreplace(self._ends, (moved_to, key))
            return
        heapq.heappop(self._ends)
        del self._entries[key]
        if now < end:
            self._on_dropped()

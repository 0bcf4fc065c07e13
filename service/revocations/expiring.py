"""A bounded mapping whose entries leave it when their time is over.

Nothing ever goes through all of it: each call lets go of a few entries whose time is over, which is more than it adds.
So the event loop is never held for long, however many entries end at the same moment.
"""

import heapq
import time
from collections.abc import Callable
from itertools import islice
from typing import Generic, TypeVar

FORGOTTEN_AT_ONCE = 4
"""Entries that one call lets go of."""

Value = TypeVar("Value")


class Expiring(Generic[Value]):
    """The mapping. When it is full, the entry that ends soonest (to the second) makes room.

    Args:
        most: entries that it holds.
        clock: seconds that never go back.
        on_dropped: called for each entry that had to go before its time.
    """

    def __init__(
        self,
        most: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        on_dropped: Callable[[], object] = lambda: None,
    ) -> None:
        self._most = most
        self._clock = clock
        self._on_dropped = on_dropped
        self._entries: dict[str, tuple[Value, float]] = {}
        self._ending: dict[int, dict[str, None]] = {}
        """The keys by the second in which they end."""
        self._seconds: list[int] = []
        """A heap of those seconds."""

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> tuple[Value, float] | None:
        """Give the value and the clock's time of its end, while it lasts."""
        self._forget_some()
        entry = self._entries.get(key)
        return entry if entry is not None and self._clock() < entry[1] else None

    def put(self, key: str, value: Value, until: float) -> None:
        """Put an entry in, in place of the one with this key."""
        self._forget_some()
        self.remove(key)
        if len(self._entries) >= self._most and (soonest := self._soonest()) is not None:
            self.remove(soonest)
            self._on_dropped()
        second = int(until)
        if second not in self._ending:
            self._ending[second] = {}
            heapq.heappush(self._seconds, second)
        self._ending[second][key] = None
        self._entries[key] = value, until

    def remove(self, key: str) -> None:
        """Take an entry out, if it is there."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            del self._ending[int(entry[1])][key]

    def keys(self, most: int | None = None) -> list[str]:
        """Give all keys, or so many of them; of entries whose time is over too, while they are here."""
        return list(islice(self._entries, most))

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._ending.clear()
        self._seconds.clear()

    def _forget_some(self) -> None:
        now = self._clock()
        for _ in range(FORGOTTEN_AT_ONCE):
            soonest = self._soonest()
            if soonest is None or now < self._entries[soonest][1]:
                return
            self.remove(soonest)

    def _soonest(self) -> str | None:
        """Give a key of the first second in which an entry ends."""
        while self._seconds:
            keys = self._ending[self._seconds[0]]
            if keys:
                return next(iter(keys))
            del self._ending[heapq.heappop(self._seconds)]
        return None

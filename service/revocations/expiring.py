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
        """A heap of those seconds. In the first an entry ends, so before it there is nothing to forget."""

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> tuple[Value, float] | None:
        """Give the value and the clock's time of its end, while it lasts."""
        now = self._clock()
        self._forget_some(now)
        entry = self._entries.get(key)
        return entry if entry is not None and now < entry[1] else None

    def put(self, key: str, value: Value, until: float) -> None:
        """Put an entry in, in place of the one with this key."""
        self._forget_some(self._clock())
        self.remove(key)
        if self._seconds and len(self._entries) >= self._most:
            self.remove(self._soonest())
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
            while self._seconds and not self._ending[self._seconds[0]]:
                del self._ending[heapq.heappop(self._seconds)]

    def keys(self, most: int | None = None) -> list[str]:
        """Give all keys, or so many of them; of entries whose time is over too, while they are here."""
        return list(islice(self._entries, most))

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._ending.clear()
        self._seconds.clear()

    def _forget_some(self, now: float) -> None:
        for _ in range(FORGOTTEN_AT_ONCE):
            if not self._seconds or now < self._seconds[0] or now < self._entries[soonest := self._soonest()][1]:
                return
            self.remove(soonest)

    def _soonest(self) -> str:
        """Give a key of the first second in which an entry ends."""
        return next(iter(self._ending[self._seconds[0]]))

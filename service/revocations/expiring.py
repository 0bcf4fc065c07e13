"""A bounded mapping whose entries leave it when their time is over.

Nothing ever goes through all of it: each call lets go of a few entries whose time is over, which is more than it adds.
So the event loop is never held for long, however many entries end at the same moment.
"""

import heapq
import math
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
        on_dropped: called for each entry that had to go before its time, to the second.
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
        """The keys by their end, rounded up to a second: when the clock shows it, all of them are over."""
        self._seconds: list[int] = []
        """A heap of those seconds. In the first there are keys."""

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> tuple[Value, float] | None:
        """Give the value and the clock's time of its end, while it lasts."""
        now = self._clock()
        if self._seconds and self._seconds[0] <= now:
            self._forget_some(now)
        entry = self._entries.get(key)
        return entry if entry is not None and now < entry[1] else None

    def add(self, key: str, value: Value, until: float) -> tuple[Value, float] | None:
        """Put an entry in, unless there is one with this key: that one stays, and is given as by ``get``."""
        now = self._clock()
        if self._seconds and self._seconds[0] <= now:
            self._forget_some(now)
        entry = self._entries.get(key)
        if entry is not None:
            if now < entry[1]:
                return entry
            self.remove(key)
        if len(self._entries) >= self._most:
            self._make_room(now)
        second = math.ceil(until)
        if second not in self._ending:
            self._ending[second] = {}
            heapq.heappush(self._seconds, second)
        self._ending[second][key] = None
        self._entries[key] = value, until
        return None

    def put(self, key: str, value: Value, until: float) -> None:
        """Put an entry in, in place of the one with this key."""
        self.remove(key)
        self.add(key, value, until)

    def remove(self, key: str) -> None:
        """Take an entry out, if it is there."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            second = self._ending[math.ceil(entry[1])]
            del second[key]
            if not second:
                self._drop_empty_seconds()

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
            if not self._seconds or now < self._seconds[0]:
                return
            over = self._ending[self._seconds[0]]
            # The last, because a dictionary finds its first only past the places of all that left it before.
            key, _ = over.popitem()
            del self._entries[key]
            if not over:
                self._drop_empty_seconds()

    def _drop_empty_seconds(self) -> None:
        while self._seconds and not self._ending[self._seconds[0]]:
            del self._ending[heapq.heappop(self._seconds)]

    def _make_room(self, now: float) -> None:
        soonest = self._soonest()
        if now < self._entries[soonest][1]:
            self._on_dropped()
        self.remove(soonest)

    def _soonest(self) -> str:
        """Give a key of the first second in which an entry ends."""
        return next(iter(self._ending[self._seconds[0]]))

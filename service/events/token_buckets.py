"""Token buckets: how much may pass, exactly.

``limits`` has no token bucket, and its nearest, the sliding window counter, lets ``burst + 1`` pass within
microseconds, nothing after a burst and ten seconds of silence, and starts up to 60 threads a second.
"""

import math
import time
from collections.abc import Callable, Hashable

SECOND = 1_000_000_000
"""In nanoseconds. Whole numbers, so that no rounding adds up."""
SWEEP_FROM = 1000
"""Buckets that are held before the full ones among them are looked for."""


class TokenBuckets:
    """One token bucket for each key. Of one key at most ``burst + per_second * t`` tokens are taken within t seconds.

    A bucket is a single number, the time at which it will be full again. A full one is as good as none and is
    forgotten, so the memory is bounded by what was taken lately, not by how many keys have ever been seen.

    Args:
        per_second: tokens that flow into a bucket, more than 0.
        burst: tokens that a full bucket holds, at least 1.
        clock: gives nanoseconds, and never goes back.
    """

    def __init__(self, *, per_second: float, burst: int, clock: Callable[[], int] = time.monotonic_ns) -> None:
        # Rounded up: rather a nanosecond slower than above the bound.
        self._per_token = math.ceil(SECOND / per_second)
        self._until_full = burst * self._per_token
        self._clock = clock
        self._full_at: dict[Hashable, int] = {}
        self._sweep_at = SWEEP_FROM

    def __len__(self) -> int:
        return len(self._full_at)

    def has_token(self, key: Hashable) -> bool:
        """Look whether ``take`` would give a token; takes none and remembers nothing."""
        now = self._clock()
        return self._full_at_after_taking(key, now) - now <= self._until_full

    def take(self, key: Hashable) -> bool:
        """Take a token, if there is one."""
        now = self._clock()
        full_at = self._full_at_after_taking(key, now)
        if full_at - now > self._until_full:
            return False
        if len(self._full_at) >= self._sweep_at:
            self._forget_full_ones(now)
        self._full_at[key] = full_at
        return True

    def _full_at_after_taking(self, key: Hashable, now: int) -> int:
        return max(self._full_at.get(key, now), now) + self._per_token

    def _forget_full_ones(self, now: int) -> None:
        self._full_at = {key: full_at for key, full_at in self._full_at.items() if full_at > now}
        # Twice what is left: so a sweep costs each bucket that was added since the last one a constant.
        self._sweep_at = max(SWEEP_FROM, 2 * len(self._full_at))

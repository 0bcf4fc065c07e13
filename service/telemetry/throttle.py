"""Keeps callers from filling the diagnostics: the same thing is said once a minute."""

import math
import time
from collections.abc import Callable

LOG_INTERVAL = 60.0
"""Seconds between two diagnostics for the same reason."""


class LogThrottle:
    """Tells when a diagnostic may be logged again."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said_at: dict[str, float] = {}

    def may_say(self, reason: str) -> bool:
        """Tell whether to log for a reason now; reasons are remembered, so they are never text from outside."""
        now = self._clock()
        if now < self._said_at.get(reason, -math.inf) + LOG_INTERVAL:
            return False
        self._said_at[reason] = now
        return True

"""What may be said once a minute: anybody can call, and nobody may fill the diagnostics by calling."""

import time
from collections.abc import Callable

EVERY = 60.0
"""Seconds between two diagnostics for the same reason."""


class LogThrottle:
    """Tells when something may be said again.

    Args:
        every: seconds.
        clock: seconds.
    """

    def __init__(self, every: float = EVERY, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._every = every
        self._clock = clock
        self._said_at: dict[str, float] = {}

    def may_say(self, reason: str) -> bool:
        """Tell whether this has not been said for so long; whoever hears yes says it.

        Args:
            reason: one of a bounded number, none of them from outside.
        """
        now = self._clock()
        said_at = self._said_at.get(reason)
        if said_at is not None and now < said_at + self._every:
            return False
        self._said_at[reason] = now
        return True

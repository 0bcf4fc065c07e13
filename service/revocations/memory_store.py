"""The revocation list of one process."""

import time
from collections.abc import Callable, Sequence


class MemoryStore:
    """Keeps the list in memory; nobody else sees it, and it ends with the process.

    Args:
        clock: seconds that never go back.
    """

    problem: str | None = None

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._revoked: dict[str, tuple[float, float]] = {}
        self._claimed: dict[str, float] = {}

    async def add(self, session_ids: Sequence[str], *, at: float, seconds: int) -> None:
        """Put sessions on the list; see ``RevocationStore``."""
        until = self._clock() + seconds
        for session_id in session_ids:
            before, end = self._revoked.get(session_id, (at, until))
            self._revoked[session_id] = min(before, at), max(end, until)

    async def find(self, session_id: str) -> float | None:
        """Give when the session was signed out; see ``RevocationStore``."""
        at, until = self._revoked.get(session_id, (0.0, 0.0))
        return at if self._clock() < until else None

    async def claim(self, session_id: str, *, seconds: int) -> bool:
        """Say whether this is the first claim; see ``RevocationStore``."""
        if self._clock() < self._claimed.get(session_id, 0.0):
            return False
        self._claimed[session_id] = self._clock() + seconds
        return True

    async def close(self) -> None:
        """Forget everything."""
        self._revoked.clear()
        self._claimed.clear()

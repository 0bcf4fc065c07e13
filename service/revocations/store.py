"""What a store of the revocation list does; one test suite holds all of them to it."""

from collections.abc import Sequence
from typing import Protocol

REVOCATIONS_TIMEOUT = 0.1
"""Seconds in which a store answers. A request that asks several times gives this much to all of them together."""


class RevocationsUnavailableError(Exception):
    """The store could not be asked, or did not answer in time. Its text is one line without a secret."""


class RevocationStore(Protocol):
    """Keeps, for each signed-out session, when that was; forgets it when its time is over.

    ``add`` and ``find`` raise ``RevocationsUnavailableError`` where the store does not answer in time.
    """

    @property
    def problem(self) -> str | None:
        """Why it cannot be used at the moment, in one line without a secret; None while it can. Asks nobody."""
        ...

    async def add(self, session_ids: Sequence[str], *, at: float, seconds: int) -> None:
        """Put sessions on the list, within 100 ms.

        One that is on it already keeps the earlier ``at`` and the later end.

        Args:
            session_ids: Clerk's ids, 1-128 visible ASCII characters each.
            at: when they were signed out, in seconds since 1970.
            seconds: how long from now they are kept, at least 1.
        """
        ...

    async def find(self, session_id: str, *, within: float | None = None) -> float | None:
        """Give when the session was signed out, in seconds since 1970, or None where it is not on the list.

        Args:
            session_id: the session.
            within: seconds, where it is less than 100 ms.
        """
        ...

    async def claim(self, session_id: str, *, seconds: int, within: float | None = None) -> bool:
        """Say whether this is the first claim for the session within so many seconds, over all who share the store.

        Where they cannot be asked in time, it is the first of this process: better claimed twice than by nobody.
        """
        ...

    async def close(self) -> None:
        """Let go of what it holds."""
        ...

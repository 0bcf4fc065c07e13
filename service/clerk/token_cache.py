"""Remembers which tokens were verified, so that a busy page does not have one signature verified again and again."""

import time
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from typing import Generic, TypeVar

MOST_REMEMBERED = 10_000
"""Tokens: one a minute for each of so many people at once, in about 10 MB. Beyond it the oldest is verified again."""
MOST_SECONDS = 60
"""As long as Clerk's session tokens live."""

Value = TypeVar("Value")


class Remembered(Generic[Value]):
    """What is known of tokens that were verified: until the token's ``exp``, for 60 s at most.

    Not a second longer: the leeway is for clocks that differ, and each use within it is verified anew. Put in nothing
    but what is verified, so that nothing that Clerk has not signed takes up room. It is kept by the token's SHA-256,
    never by the token: who reads the memory of the process finds none.

    A key that Clerk withdraws counts on for the tokens that it verified in the minute before, whatever ``exp`` whoever
    stole it wrote into them. Whether the session is signed out is not this class's to know; ask that each time.

    Args:
        most: tokens remembered at once; beyond it the oldest is forgotten.
        clock: seconds since 1970, the verifier's.
    """

    def __init__(self, *, most: int = MOST_REMEMBERED, clock: Callable[[], float] = time.time) -> None:
        self._most = most
        self._clock = clock
        self._entries: OrderedDict[bytes, tuple[Value, float]] = OrderedDict()

    def __len__(self) -> int:
        """Give how many tokens are remembered."""
        return len(self._entries)

    def get(self, token: bytes) -> Value | None:
        """Give what is known of a token; None where it must be verified."""
        entry = self._entries.get(sha256(token).digest())
        return entry[0] if entry is not None and self._clock() < entry[1] else None

    def put(self, token: bytes, value: Value, expires_at: float) -> None:
        """Remember what is known of a token that was verified just now.

        Args:
            token: as it was sent.
            value: what is known of it.
            expires_at: its ``exp``.
        """
        now = self._clock()
        # All are kept about equally long, so what has expired stands in front.
        while self._entries and next(iter(self._entries.values()))[1] <= now:
            self._entries.popitem(last=False)
        if expires_at > now:
            self._entries[sha256(token).digest()] = value, min(expires_at, now + MOST_SECONDS)
            if len(self._entries) > self._most:
                self._entries.popitem(last=False)

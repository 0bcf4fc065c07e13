"""Remembers which tokens were verified, so that a token that comes with many requests is verified once."""

import time
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256

from service.clerk.verdict import Identity

MAX_TOKENS = 10_000
MAX_SECONDS = 60
"""The lifetime of Clerk's session tokens."""


class TokenCache:
    """Whom verified tokens name, until their ``exp`` and for at most 60 s; beyond ``MAX_TOKENS`` the oldest goes.

    Put in verified tokens only, so that only what Clerk has signed takes up memory. Keys are SHA-256 digests: the
    tokens themselves are not kept. The leeway for clocks is not added, and a wall clock that is set back prolongs
    nothing. A key that Clerk withdraws still counts for a minute. Whether the session is signed out is not known here.
    """

    def __init__(
        self, *, clock: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._entries: OrderedDict[bytes, tuple[Identity, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, token: bytes) -> Identity | None:
        """Return whom a token names; None if it must be verified."""
        identity, until = self._entries.get(sha256(token).digest(), (None, 0.0))
        if identity is None or self._monotonic() >= until or self._clock() >= identity.expires_at:
            return None
        return identity

    def put(self, token: bytes, identity: Identity) -> None:
        """Remember whom a token names that was verified just now."""
        now, seconds = self._monotonic(), min(identity.expires_at - self._clock(), MAX_SECONDS)
        if seconds > 0:
            self._entries[sha256(token).digest()] = identity, now + seconds
        # All are kept for about the same time, so expired ones are at the front.
        while self._entries and (len(self) > MAX_TOKENS or next(iter(self._entries.values()))[1] <= now):
            self._entries.popitem(last=False)

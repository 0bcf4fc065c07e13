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
    """Whom verified tokens name, until their ``exp`` and for at most 60 s; beyond ``max_tokens`` the oldest goes.

    The leeway for clocks is not added: within it, each use is verified anew. Put in verified tokens only, so that only
    what Clerk has signed takes up memory. Keys are SHA-256 digests: the tokens themselves are not kept. A key that
    Clerk withdraws still counts for a minute here. Whether the session is signed out must be asked for each time.
    """

    def __init__(self, *, max_tokens: int = MAX_TOKENS, clock: Callable[[], float] = time.time) -> None:
        self._max_tokens = max_tokens
        self._clock = clock
        self._entries: OrderedDict[bytes, tuple[Identity, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, token: bytes) -> Identity | None:
        """Return whom a token names; None if it must be verified."""
        entry = self._entries.get(sha256(token).digest())
        return entry[0] if entry is not None and self._clock() < entry[1] else None

    def put(self, token: bytes, identity: Identity) -> None:
        """Remember whom a token names that was verified just now."""
        now = self._clock()
        # All are kept for about the same time, so expired ones are at the front.
        while self._entries and next(iter(self._entries.values()))[1] <= now:
            self._entries.popitem(last=False)
        if identity.expires_at > now:
            self._entries[sha256(token).digest()] = identity, min(identity.expires_at, now + MAX_SECONDS)
            if len(self._entries) > self._max_tokens:
                self._entries.popitem(last=False)

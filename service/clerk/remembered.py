"""Remembers which tokens were verified, so that a busy page does not have one signature verified again and again."""

import time
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from typing import Protocol

from service.clerk.verdict import Auth, Verdict

MOST_REMEMBERED = 10_000
"""Tokens: one a minute for each of so many people at once, in about 10 MB. Beyond it the oldest is verified again."""
MOST_SECONDS = 60
"""As long as Clerk's session tokens live."""


class VerifiesOne(Protocol):
    """What gives the verdict on a token."""

    async def verify_one(self, token: bytes, patience: float) -> Verdict:
        """Give the verdict on one token; never raises on a token.

        Args:
            token: as it was sent.
            patience: seconds that the caller can wait for keys.
        """
        ...


class RememberingVerifier:
    """A verifier that gives a ``verified`` once more without verifying: until the token's ``exp``, for 60 s at most.

    Not a second longer: the leeway is for clocks that differ, and each use within it is verified anew. No other verdict
    is remembered, so nothing that Clerk has not signed takes up room. It is kept by the token's SHA-256, never by the
    token: who reads the memory of the process finds none.

    A key that Clerk withdraws counts on for the tokens that it verified in the minute before, whatever ``exp`` whoever
    stole it wrote into them. Whether the session is signed out is not this class's to know; ask that each time.

    Args:
        verifier: verifies what is not remembered.
        most: tokens remembered at once; beyond it the oldest is forgotten.
        clock: seconds since 1970, the verifier's.
    """

    def __init__(
        self, verifier: VerifiesOne, *, most: int = MOST_REMEMBERED, clock: Callable[[], float] = time.time
    ) -> None:
        self._verifier = verifier
        self._most = most
        self._clock = clock
        self._remembered: OrderedDict[bytes, tuple[float, Verdict]] = OrderedDict()

    def __len__(self) -> int:
        """Give how many tokens are remembered."""
        return len(self._remembered)

    async def verify_one(self, token: bytes, patience: float) -> Verdict:
        """Give the verdict on one token; see ``VerifiesOne``."""
        digest = sha256(token).digest()
        expires, verdict = self._remembered.get(digest, (0, None))
        if verdict is not None and self._clock() < expires:
            return verdict
        verdict = await self._verifier.verify_one(token, patience)
        if verdict.auth is Auth.VERIFIED and verdict.identity is not None:
            self._remember(digest, min(verdict.identity.expires_at, self._clock() + MOST_SECONDS), verdict)
        return verdict

    def _remember(self, digest: bytes, expires: float, verdict: Verdict) -> None:
        now = self._clock()
        # All are kept about equally long, so what has expired stands in front.
        while self._remembered and next(iter(self._remembered.values()))[0] <= now:
            self._remembered.popitem(last=False)
        if expires > now:
            self._remembered[digest] = expires, verdict
            if len(self._remembered) > self._most:
                self._remembered.popitem(last=False)

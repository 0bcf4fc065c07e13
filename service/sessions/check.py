"""Whether a request's session counts, and whose it is: its token is verified, and its session not signed out."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal, Self

from starlette.authentication import BaseUser

from service.clerk.credentials import read_credentials
from service.clerk.verdict import ABSENT, Auth, Identity, better
from service.clerk.verifier import KEY_TIMEOUT, Verifier
from service.events.recorder import Recorder
from service.events.request import RequestHead
from service.events.types import Facts, SessionUsedAfterLogout, new_event_id, now, timestamp_of
from service.revocations.revocation_list import REVOCATIONS_TIMEOUT, RevocationList, RevocationsUnavailableError
from service.sessions.refusal import REVOCATIONS_UNAVAILABLE, SESSION_PENDING, SESSION_REVOKED, Refusal, refusal_of
from service.telemetry.diagnostics import where
from service.telemetry.metrics import Children, Metrics

logger = logging.getLogger("service.guard")

MAX_REMEMBERED = 10_000
"""Tokens."""
MAX_SECONDS = 60
"""The lifetime of Clerk's session tokens."""
REPORT_INTERVAL = 300
"""Seconds in which one session is reported once."""
SIGN_OUT_TOLERANCE = 10
"""Seconds after a logout in which a new token is no surprise: clocks differ, and the browser calls us before Clerk."""


@dataclass(frozen=True, slots=True)
class SessionUser(BaseUser):
    """The user of a session that counts, as applications find them in ``request.user``. Ids as in ``Identity``."""

    user_id: str
    session_id: str
    org_id: str | None
    """The active organisation."""
    actor_id: str | None
    """The impersonator, when somebody acts as the user."""
    expires_at: int
    """The token's ``exp``, in seconds since 1970."""
    is_pending: bool
    """The session has open tasks; only where that is allowed."""

    @classmethod
    def of(cls, identity: Identity) -> Self:
        """Give the user of an identity."""
        return cls(*identity[:4], identity.expires_at, identity.status == "pending")

    @property
    def is_authenticated(self) -> bool:
        """Always true."""
        return True

    @property
    def identity(self) -> str:
        """Clerk's user id; so is the ``display_name``, because the token holds no name."""
        return self.user_id

    display_name = identity


class TokenCache:
    """Whom verified tokens name, until their ``exp`` and for at most 60 s; beyond 10,000 the oldest goes.

    Put in verified tokens only, so that only what Clerk has signed takes up memory. Keys are SHA-256 digests: the
    tokens themselves are not kept. The leeway for clocks is not added, and a wall clock that is set back prolongs
    nothing. A key that Clerk withdraws still counts for a minute.
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
        now = self._monotonic()
        self._entries[sha256(token).digest()] = identity, now + min(identity.expires_at - self._clock(), MAX_SECONDS)
        # All are kept for about the same time, so expired ones are at the front.
        while self._entries and (len(self) > MAX_REMEMBERED or next(iter(self._entries.values()))[1] <= now):
            self._entries.popitem(last=False)


class SessionCheck:
    """Tells for each request whether its session counts, and records the use of one that is signed out.

    Args:
        facts: finds what the request tells that event.
        cookies: the names of the session cookies to look at; None for any.
        fail: what happens to a verified token while nobody can say whether its session is signed out: ``closed``
            refuses it, ``open`` lets it pass.
    """

    def __init__(
        self,
        verifier: Verifier,
        revocations: RevocationList,
        recorder: Recorder,
        facts: Callable[[RequestHead], Facts],
        *,
        cookies: frozenset[bytes] | None = None,
        fail: Literal["closed", "open"] = "closed",
        metrics: Metrics | None = None,
    ) -> None:
        self._verifier = verifier
        self._remembered = TokenCache()
        self._revocations = revocations
        self._recorder = recorder
        self._facts = facts
        self._cookies = cookies
        self._fail = fail
        self._results = Children((metrics or Metrics()).session_checks)

    async def __call__(self, head: RequestHead, *, allow_pending: bool = False) -> SessionUser | Refusal:
        """Give who sent a request, or a WebSocket's, or why it is refused.

        Of several tokens, as cookies of several sessions, any one that counts admits; else the best verdict decides,
        after "signed out" and "pending", which are a verified token's. Only what is refused is reported as used after
        its logout. ``allow_pending`` admits a session with open tasks.

        All questions to the revocation list share 100 ms, that of the report included.
        """
        best, within, deadline = ABSENT, REVOCATIONS_TIMEOUT, time.monotonic() + KEY_TIMEOUT
        signed_out: tuple[Identity, float] | None = None
        admitted = ("active", "pending") if allow_pending else ("active",)
        is_pending = False
        tokens = read_credentials(head.headers, self._cookies).tokens
        for token in self._verifier.most_likely(tokens) if len(tokens) > 1 else tokens:
            identity = self._remembered.get(token)
            if identity is None:
                verdict = await self._verifier.verify_one(token, deadline)
                identity = verdict.identity
                if verdict.auth is not Auth.VERIFIED or identity is None:
                    best = better(best, verdict)
                    continue
                self._remembered.put(token, identity)
            if identity.status not in admitted:
                is_pending = True
                continue
            asked_at = time.monotonic()
            try:
                signed_out_at = await self._revocations.signed_out_at(identity.session_id, within=within)
            except RevocationsUnavailableError:
                self._results["unknown",].inc()
                return SessionUser.of(identity) if self._fail == "open" else REVOCATIONS_UNAVAILABLE
            if signed_out_at is None:
                self._results["admitted",].inc()
                return SessionUser.of(identity)
            within = max(0.0, within - (time.monotonic() - asked_at))
            signed_out = signed_out or (identity, signed_out_at)
        if signed_out is not None:
            self._results["signed_out",].inc()
            await self._report(head, *signed_out, within)
            return SESSION_REVOKED
        self._results["pending" if is_pending else best.auth.value,].inc()
        return SESSION_PENDING if is_pending else refusal_of(best)

    async def _report(self, head: RequestHead, identity: Identity, signed_out_at: float, within: float) -> None:
        """Record, once per session and ``REPORT_INTERVAL``, that a token came after its session was signed out."""
        made_at = identity.issued_at if identity.origin_issued_at is None else identity.origin_issued_at
        try:
            if await self._revocations.is_first_report(identity.session_id, seconds=REPORT_INTERVAL, within=within):
                await self._recorder.record(
                    SessionUsedAfterLogout(
                        event_id=new_event_id(),
                        timestamp=now(),
                        logged_out_at=timestamp_of(signed_out_at),
                        token_issued_at=timestamp_of(identity.issued_at),
                        issued_after_logout=made_at > signed_out_at + SIGN_OUT_TOLERANCE,
                        who=identity,
                        facts=self._facts(head),
                    )
                )
        except Exception as error:  # noqa: BLE001 - a refusal must not become a 500
            logger.error("a use after logout was not recorded: %s", where(error))  # noqa: TRY400 - see where()

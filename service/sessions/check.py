"""Whether a request's session counts, and whose it is: its token is verified, and its session not signed out."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, Self

from starlette.authentication import BaseUser

from service.clerk.credentials import read_credentials
from service.clerk.token_cache import TokenCache
from service.clerk.verdict import Auth, Identity, Verdict
from service.clerk.verifier import LEEWAY, best_verdict
from service.events.recorder import Recorder
from service.events.request_head import RequestHead
from service.events.types import Facts, SessionUsedAfterLogout, new_event_id, now, timestamp_of
from service.revocations.revocation_list import RevocationList
from service.revocations.store import REVOCATIONS_TIMEOUT, RevocationsUnavailableError
from service.sessions.refusal import REVOCATIONS_UNAVAILABLE, SESSION_REVOKED, Refusal, refusal_of
from service.telemetry.diagnostics import where
from service.telemetry.metrics import Children, Metrics

logger = logging.getLogger("service.guard")

REPORT_INTERVAL = 300
"""Seconds in which one session is reported once. A signed-out session is on the list for 75 s, so that is once; where
Clerk's tokens are set to live longer, a session that somebody goes on using shows again every 5 minutes."""
SIGN_OUT_TOLERANCE = LEEWAY + 5
"""Seconds after our record of a logout in which a new token is no surprise: by so much clocks may differ, and so long
may the browser take from its call here to Clerk's end of the session."""


class VerifiesOne(Protocol):
    """A verifier, as far as it is used here."""

    async def verify_one(self, token: bytes, deadline: float) -> Verdict:
        """Return the verdict on one token; never raises because of a token.

        Args:
            token: as sent.
            deadline: until when to wait for a key, by ``time.monotonic()``.
        """
        ...


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

    @classmethod
    def of(cls, identity: Identity) -> Self:
        """Give the user of an identity."""
        return cls(identity.user_id, identity.session_id, identity.org_id, identity.actor_id, identity.expires_at)

    @property
    def is_authenticated(self) -> bool:
        """Always true."""
        return True

    @property
    def display_name(self) -> str:
        """Clerk's user id; the token holds no name."""
        return self.user_id

    @property
    def identity(self) -> str:
        """Clerk's user id."""
        return self.user_id


class _Lookup:
    """What the revocation list says about the verified tokens of one request, within ``REVOCATIONS_TIMEOUT`` in all."""

    def __init__(self, revocations: RevocationList) -> None:
        self._revocations = revocations
        self.seconds_left = REVOCATIONS_TIMEOUT
        self.accepted: Identity | None = None
        self.signed_out: tuple[Identity, float] | None = None
        """The first one that is, and when it was signed out."""
        self.is_unknown = False
        """The list could not be asked about the accepted one."""

    async def accepts(self, identity: Identity) -> bool:
        """Say whether a session is not signed out, or whether nobody can say."""
        asked, signed_out_at = time.monotonic(), None
        try:
            signed_out_at = await self._revocations.signed_out_at(identity.session_id, within=self.seconds_left)
        except RevocationsUnavailableError:
            self.is_unknown = True
        if signed_out_at is None:
            self.accepted = identity
            return True
        self.seconds_left = max(0.0, self.seconds_left - (time.monotonic() - asked))
        self.signed_out = self.signed_out or (identity, signed_out_at)
        return False


class SessionCheck:
    """Tells for each request whether its session counts.

    Args:
        verifier: gives the verdict on a token; a verified one is remembered.
        revocations: knows which sessions are signed out.
        recorder: takes the event about a token that came after its session was signed out.
        facts: finds what the request tells that event.
        fail: what happens to a verified token while nobody can say whether its session is signed out: ``closed``
            refuses it, ``open`` lets it pass.
        metrics: counts the decisions.
    """

    def __init__(
        self,
        verifier: VerifiesOne,
        revocations: RevocationList,
        recorder: Recorder,
        facts: Callable[[RequestHead], Facts],
        *,
        fail: Literal["closed", "open"] = "closed",
        metrics: Metrics | None = None,
    ) -> None:
        self._verifier = verifier
        self._verified: TokenCache[Verdict] = TokenCache()
        self._revocations = revocations
        self._recorder = recorder
        self._facts = facts
        self._fail = fail
        self._results = Children((metrics or Metrics()).session_checks)

    async def __call__(self, head: RequestHead) -> SessionUser | Refusal:
        """Give who sent a request, or why it is refused.

        Of several tokens, as cookies of several sessions, any one that counts admits; else the best verdict decides,
        after "signed out", which is a verified token's. Only what is refused is reported as used after its logout.

        All questions to the revocation list share 100 ms, that of the report included.

        Args:
            head: of the request, or of a WebSocket's.
        """
        lookup = _Lookup(self._revocations)
        verdict = await best_verdict(read_credentials(head.headers).tokens, self._verify_one, lookup.accepts)
        if lookup.accepted is not None:
            self._results["unknown" if lookup.is_unknown else "admitted",].inc()
            if lookup.is_unknown and self._fail == "closed":
                return REVOCATIONS_UNAVAILABLE
            return SessionUser.of(lookup.accepted)
        if lookup.signed_out is not None:
            self._results["signed_out",].inc()
            await self._report(head, *lookup.signed_out, lookup.seconds_left)
            return SESSION_REVOKED
        self._results[verdict.auth.value,].inc()
        return refusal_of(verdict)

    async def _verify_one(self, token: bytes, deadline: float) -> Verdict:
        if (verdict := self._verified.get(token)) is None:
            verdict = await self._verifier.verify_one(token, deadline)
            if verdict.auth is Auth.VERIFIED and verdict.identity is not None:
                self._verified.put(token, verdict, verdict.identity.expires_at)
        return verdict

    async def _report(self, head: RequestHead, identity: Identity, signed_out_at: float, within: float) -> None:
        """Record, once per session and ``REPORT_INTERVAL``, that a token came after its session was signed out.

        Before the answer, as with a logout, so that no end of the process can lose it. The refusal stands in any case.
        Where the list cannot be asked, each process reports by itself: ``dedupe_key`` is the same.
        """
        session_id = identity.session_id
        try:
            if await self._revocations.is_first_report(session_id, seconds=REPORT_INTERVAL, within=within):
                await self._recorder.record(
                    SessionUsedAfterLogout(
                        event_id=new_event_id(),
                        timestamp=now(),
                        logged_out_at=timestamp_of(signed_out_at),
                        token_issued_at=timestamp_of(identity.issued_at),
                        issued_after_logout=identity.issued_at > signed_out_at + SIGN_OUT_TOLERANCE,
                        who=identity,
                        facts=self._facts(head),
                    )
                )
        except Exception as error:  # noqa: BLE001 - a refusal must not become a 500
            logger.error("a use after logout was not recorded: %s", where(error))  # noqa: TRY400 - see where()

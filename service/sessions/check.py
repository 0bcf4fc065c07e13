"""Decides whether a request is let in: its token is verified, and its session is not signed out."""

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Literal, Protocol

from service.clerk.credentials import read_credentials
from service.clerk.token_cache import Remembered
from service.clerk.verdict import ABSENT, Auth, Identity, Verdict, better
from service.clerk.verifier import LEEWAY, PATIENCE
from service.events.request_head import RequestHead
from service.events.types import Event, Facts, SessionUsedAfterLogout, new_event_id, now, timestamp_of
from service.revocations.revocation_list import RevocationList
from service.revocations.store import REVOCATIONS_TIMEOUT, RevocationsUnavailableError
from service.sessions.refusal import REVOCATIONS_UNAVAILABLE, SESSION_REVOKED, Refusal, refusal_of
from service.sessions.user import SessionUser
from service.telemetry.diagnostics import where
from service.telemetry.metrics import Children, Metrics

logger = logging.getLogger("service.guard")

REPORT_EVERY = 300
"""Seconds in which one session is reported once. A signed-out session is on the list for 75 s, so that is once; where
Clerk's tokens are set to live longer, a session that somebody goes on using shows again every 5 minutes."""
ENDS_WITHIN = LEEWAY + 5
"""Seconds after our record of a logout in which a new token is no surprise: by so much clocks may differ, and so long
may the browser take from its call here to Clerk's end of the session."""


class VerifiesOne(Protocol):
    """What gives the verdict on a token."""

    async def verify_one(self, token: bytes, patience: float) -> Verdict:
        """Give the verdict on one token; never raises on a token.

        Args:
            token: as it was sent.
            patience: seconds that the caller can wait for keys.
        """
        ...


class Records(Protocol):
    """What events are given to."""

    def record(self, event: Event) -> Awaitable[bool]:
        """Record one event, within 100 ms; tell whether it is recorded."""
        ...


class SessionCheck:
    """The decision, for one request after the other.

    Args:
        verifier: gives the verdict on a token; asked once for one that is verified, while it is remembered.
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
        recorder: Records,
        facts: Callable[[RequestHead], Facts],
        *,
        fail: Literal["closed", "open"] = "closed",
        metrics: Metrics | None = None,
    ) -> None:
        self._verifier = verifier
        # With the user: made anew for each request, it would cost 3 % of it.
        self._remembered: Remembered[tuple[Identity, SessionUser]] = Remembered()
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
        best, signed_out, left, patience = ABSENT, None, REVOCATIONS_TIMEOUT, PATIENCE
        for token in read_credentials(head.headers).tokens:
            known = self._remembered.get(token)
            if known is None:
                began = time.monotonic()
                verdict = await self._verifier.verify_one(token, patience)
                patience = max(0.0, patience - (time.monotonic() - began))
                if verdict.auth is not Auth.VERIFIED or verdict.identity is None:
                    best = better(best, verdict)
                    continue
                known = verdict.identity, SessionUser.of(verdict.identity)
                self._remembered.put(token, known, verdict.identity.expires_at)
            identity, user = known
            asked = time.monotonic()
            try:
                signed_out_at = await self._revocations.signed_out_at(identity.session_id, within=left)
            except RevocationsUnavailableError:
                self._results["unknown",].inc()
                return user if self._fail == "open" else REVOCATIONS_UNAVAILABLE
            if signed_out_at is None:
                self._results["admitted",].inc()
                return user
            left = max(0.0, left - (time.monotonic() - asked))
            signed_out = signed_out or (identity, signed_out_at)
        if signed_out is not None:
            self._results["signed_out",].inc()
            await self._report(head, *signed_out, left)
            return SESSION_REVOKED
        self._results[best.auth.value,].inc()
        return refusal_of(best)

    async def _report(self, head: RequestHead, identity: Identity, signed_out_at: float, within: float) -> None:
        """Record, once per session and window, that a token came after its session was signed out.

        Before the answer, as a logout is: so no end of the process can lose it. The first request of a window waits for
        the revocation list, and up to 100 ms for the event log. The refusal stands in any case. Where the list cannot
        be asked, each process reports by itself: ``dedupe_key`` is the same.
        """
        session_id = identity.session_id
        try:
            if await self._revocations.is_first_report(session_id, seconds=REPORT_EVERY, within=within):
                await self._recorder.record(
                    SessionUsedAfterLogout(
                        event_id=new_event_id(),
                        timestamp=now(),
                        logged_out_at=timestamp_of(signed_out_at),
                        token_issued_at=timestamp_of(identity.issued_at),
                        issued_after_logout=identity.issued_at > signed_out_at + ENDS_WITHIN,
                        who=identity,
                        facts=self._facts(head),
                    )
                )
        except Exception as error:  # noqa: BLE001 - a refusal must not become a 500
            logger.error("a use after logout was not recorded: %s", where(error))  # noqa: TRY400 - see where()

"""One sign-out from end to end: Clerk ends the sessions, then an event says so, then their tokens are refused."""

import logging
from dataclasses import dataclass

from service.clerk.sign_out import SignedOut, SignOut
from service.clerk.verdict import Identity
from service.clerk.verifier import longest_lifetime
from service.events.recorder import Recorder
from service.events.types import Facts, UserLogoutEverywhere, new_event_id, now
from service.revocations.revocation_list import RevocationList
from service.telemetry.diagnostics import where

logger = logging.getLogger("service.sessions")


@dataclass(frozen=True, slots=True)
class Ended:
    """What came of it.

    Attributes:
        signed_out: at Clerk.
        event_id: of the event; None where Clerk could not be asked, so that nothing happened.
        recorded: the event was written.
    """

    signed_out: SignedOut
    event_id: str | None = None
    recorded: bool = False


class SigningOut:
    """The work. It never raises.

    Args:
        sign_out: ends the sessions.
        identity: who asked for it.
        scope: ``all`` or ``others``.
        facts: what the request tells the event.
        recorder: takes the event.
        revocations: takes the sessions that have ended.
    """

    def __init__(
        self,
        sign_out: SignOut,
        identity: Identity,
        scope: str,
        facts: Facts,
        recorder: Recorder,
        revocations: RevocationList,
    ) -> None:
        self._sign_out = sign_out
        self._identity = identity
        self._scope = scope
        self._facts = facts
        self._recorder = recorder
        self._revocations = revocations
        self._timestamp = now()

    async def run(self) -> Ended:
        """Do it all, in this order."""
        signed_out = await self._sign_out.run()
        if not signed_out.listed:
            return Ended(signed_out)
        event_id = new_event_id()
        recorded = await self._record(event_id, signed_out)
        await self._refuse_tokens(signed_out)
        return Ended(signed_out, event_id, recorded)

    def cut_short(self, within: float) -> None:
        """Have Clerk asked for nothing more after so many seconds."""
        self._sign_out.cut_short(within)

    async def _record(self, event_id: str, signed_out: SignedOut) -> bool:
        event = UserLogoutEverywhere(
            event_id=event_id,
            timestamp=self._timestamp,
            scope=self._scope,
            revoked_sessions=signed_out.revoked,
            failed_sessions=signed_out.failed,
            who=self._identity,
            facts=self._facts,
        )
        try:
            return await self._recorder.record(event)
        except Exception as error:  # noqa: BLE001 - what Clerk has ended has ended
            logger.error("a sign-out was not recorded: %s", where(error))  # noqa: TRY400 - see where()
            return False

    async def _refuse_tokens(self, signed_out: SignedOut) -> None:
        """Put what has ended on the revocation list."""
        if not signed_out.over:
            return
        try:
            await self._revocations.revoke(signed_out.over, token_lifetime=longest_lifetime(self._identity))
        except Exception as error:  # noqa: BLE001 - as above
            logger.error("signed-out sessions were not put on the revocation list: %s", where(error))  # noqa: TRY400

"""One sign-out everywhere: Clerk ends the sessions, then an event is recorded, then their tokens are refused."""

import asyncio
import logging
from dataclasses import dataclass

from service.clerk.sign_out import SignOutEverywhere, SignOutResult
from service.clerk.verdict import Identity
from service.clerk.verifier import longest_lifetime
from service.events.types import Facts, UserLogoutEverywhere, new_event_id, now
from service.resources import Resources
from service.telemetry.diagnostics import where

logger = logging.getLogger("service.sessions")


@dataclass(frozen=True, slots=True)
class RecordedSignOut:
    """What came of it. ``event_id`` is None if Clerk could not be asked, so that nothing happened."""

    result: SignOutResult
    event_id: str | None = None
    recorded: bool = False


async def sign_out_everywhere(
    sign_out: SignOutEverywhere,
    time_limit: asyncio.Timeout,
    *,
    identity: Identity,
    scope: str,
    facts: Facts,
    resources: Resources,
) -> RecordedSignOut:
    """Do it all, in this order. Never raises.

    Args:
        sign_out: ends the sessions.
        time_limit: for that; see ``SignOutEverywhere.run``.
        identity: who asked for it.
        scope: ``all`` or ``others``.
        facts: what the request tells the event.
        resources: record the event, and hold the revocation list.
    """
    timestamp, event_id, recorded = now(), new_event_id(), False
    result = await sign_out.run(time_limit)
    if not result.listed:
        return RecordedSignOut(result)
    event = UserLogoutEverywhere(
        event_id=event_id,
        timestamp=timestamp,
        scope=scope,
        revoked_sessions=result.revoked,
        failed_sessions=result.failed,
        who=identity,
        facts=facts,
    )
    try:
        recorded = await resources.recorder.record(event)
    except Exception as error:  # noqa: BLE001 - what Clerk has ended has ended
        logger.error("a sign-out was not recorded: %s", where(error))  # noqa: TRY400 - see where()
    try:
        if result.over:
            await resources.revocations.revoke(result.over, token_lifetime=longest_lifetime(identity))
    except Exception as error:  # noqa: BLE001 - as above
        logger.error("signed-out sessions were not put on the revocation list: %s", where(error))  # noqa: TRY400
    return RecordedSignOut(result, event_id, recorded)

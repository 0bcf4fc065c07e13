"""One sign-out everywhere: Clerk ends the sessions, then an event is recorded, then their tokens are refused."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from service.clerk.sign_out import SignOutEverywhere, SignOutResult, StopReason
from service.clerk.verdict import Identity
from service.events.flood import TokenBuckets
from service.events.types import Facts, UserLogoutEverywhere, new_event_id, now, timestamp_of
from service.resources import Resources
from service.telemetry.diagnostics import where

logger = logging.getLogger("service.sessions")

PER_MINUTE = 5
"""Sign-outs of one user that may succeed."""
TRIES = 10
"""Of one user at once, whatever comes of them, and one more each second."""


@dataclass(frozen=True, slots=True)
class RecordedSignOut:
    """What came of it. ``event_id`` is None if Clerk was not or could not be asked, so that nothing happened."""

    result: SignOutResult
    event_id: str | None = None
    recorded: bool = False


class SignOutLimit:
    """Bounds how often a user may sign out everywhere, so that no token can spend Clerk's quota for the instance.

    What fails is to be repeated soon, so it does not count as one of the five in a minute, only as a try.

    Args:
        clock: gives nanoseconds, and never goes back.
    """

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._successes = TokenBuckets(per_second=PER_MINUTE / 60, burst=PER_MINUTE, clock=clock)
        self._tries = TokenBuckets(per_second=1, burst=TRIES, clock=clock)

    def begin(self, user_id: str) -> int:
        """Give 0 if the user may sign out now, else the seconds after which they may."""
        if not self._successes.has_token(user_id):
            return 60 // PER_MINUTE
        return 0 if self._tries.take(user_id) else 1

    def succeed(self, user_id: str) -> None:
        """Count a sign-out that succeeded."""
        self._successes.take(user_id)


async def sign_out_everywhere(
    sign_out: SignOutEverywhere,
    time_limit: asyncio.Timeout,
    *,
    identity: Identity,
    scope: str,
    facts: Facts,
    resources: Resources,
    limit: SignOutLimit,
) -> RecordedSignOut:
    """Do it all, in this order. Never raises.

    Args:
        sign_out: ends the sessions.
        time_limit: for that; see ``SignOutEverywhere.run``.
        identity: who asked for it.
        scope: ``all`` or ``others``.
        facts: what the request tells the event.
        resources: record the event, and hold the revocation list.
        limit: says whether the user may.
    """
    if wait := limit.begin(identity.user_id):
        problem = "one user has asked for too many"
        return RecordedSignOut(SignOutResult(StopReason.TOO_MANY_REQUESTS, problem=problem, retry_after=wait))
    timestamp, event_id, recorded = now(), new_event_id(), False
    result = await sign_out.run(time_limit)
    if result.succeeded:
        limit.succeed(identity.user_id)
    if not result.listed:
        return RecordedSignOut(result)
    event = UserLogoutEverywhere(
        event_id=event_id,
        timestamp=timestamp,
        scope=scope,
        revoked_sessions=result.revoked,
        failed_sessions=result.failed,
        who=identity,
        facts={
            **facts,
            "authorized_party": identity.authorized_party,
            "token_issued_at": timestamp_of(identity.issued_at),
        },
    )
    try:
        recorded = await resources.recorder.record(event)
    except Exception as error:  # noqa: BLE001 - what Clerk has ended has ended
        logger.error("a sign-out was not recorded: %s", where(error))  # noqa: TRY400 - see where()
    try:
        if result.over:
            await resources.revocations.revoke(result.over, token_lifetime=identity.longest_lifetime)
    except Exception as error:  # noqa: BLE001 - as above
        logger.error("signed-out sessions were not put on the revocation list: %s", where(error))  # noqa: TRY400
    return RecordedSignOut(result, event_id, recorded)

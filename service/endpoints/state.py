"""What an endpoint finds in its request's state: what the lifespan opened, and the head of the request."""

import asyncio
import logging
from collections.abc import Sequence
from typing import TypedDict

from service.clerk.webhook import WebhookReader
from service.endpoints.sign_outs import SignOutLimit, SingleFlight
from service.events.flood import FloodControl
from service.events.request import RequestHead
from service.events.types import Event
from service.resources import Resources
from service.telemetry.diagnostics import LogThrottle, where

logger = logging.getLogger("service.endpoints")


class AppState(TypedDict):
    """What the lifespan opens and closes; shared by all requests."""

    resources: Resources
    """Keys, Clerk's API, the recorder, the revocation list: what the settings name, opened."""
    flood: FloodControl
    sign_outs: SingleFlight
    """The sign-outs everywhere that are under way; the server stops them when it begins to end."""
    sign_out_limit: SignOutLimit
    webhook_reader: WebhookReader | None
    """None without a signing secret."""
    large_bodies: asyncio.Semaphore
    """Places for large bodies of webhooks that are read at the same time."""
    throttle: LogThrottle


class RequestState(AppState):
    """The same, with what the middleware adds for one request."""

    head: RequestHead


async def record_and_revoke(
    resources: Resources,
    event: Event,
    session_ids: Sequence[str],
    *,
    at: float | None = None,
    token_lifetime: float | None = None,
) -> bool:
    """Record that sessions have ended, and have their tokens refused, also where nothing is recorded.

    Never raises, because Clerk has ended them. ``at`` and ``token_lifetime`` are those of ``RevocationList.revoke``.

    Returns:
        Whether it is recorded.
    """
    recorded = False
    try:
        recorded = await resources.recorder.record(event)
    except Exception as error:  # noqa: BLE001 - as said above
        logger.error("%s was not recorded: %s", event.name, where(error))  # noqa: TRY400 - see where()
    try:
        if session_ids:
            await resources.revocations.revoke(session_ids, at=at, token_lifetime=token_lifetime)
    except Exception as error:  # noqa: BLE001 - as said above
        logger.error("sessions were not put on the revocation list: %s", where(error))  # noqa: TRY400
    return recorded

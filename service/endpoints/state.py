"""What an endpoint finds in its request's state: what the lifespan opened, and the head of the request."""

import asyncio
from collections.abc import Callable
from typing import TypedDict

from starlette.requests import Request

from service.clerk.webhook import WebhookReader
from service.endpoints.sign_out_everywhere import RecordedSignOut, SignOutLimit
from service.endpoints.single_flight import SingleFlight
from service.events.flood import FloodControl
from service.events.request import RequestHead
from service.resources import Resources
from service.telemetry.diagnostics import LogThrottle


class AppState(TypedDict):
    """What the lifespan opens and closes; shared by all requests."""

    resources: Resources
    """Keys, Clerk's API, the recorder, the revocation list: what the settings name, opened."""
    flood: FloodControl
    sign_outs: SingleFlight[RecordedSignOut]
    """The sign-outs everywhere that are under way."""
    sign_out_limit: SignOutLimit
    webhook_reader: WebhookReader | None
    """None without a signing secret."""
    large_bodies: asyncio.Semaphore
    """Places for large bodies of webhooks that are read at the same time."""
    throttle: LogThrottle
    stop: Callable[[], None]
    """What the server calls when it begins to end, while what is under way is still answered."""


class RequestState(AppState):
    """The same, with what the middleware adds for one request."""

    head: RequestHead


def state_of(request: Request) -> RequestState:
    """Give the state of a request."""
    state: RequestState = request.scope["state"]
    return state

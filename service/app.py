"""The application: its routes, what surrounds them, and what is open while it runs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.clerk.webhook import WebhookReader
from service.endpoints.asgi import SESSION, ExactRouter, ResponseHeaders
from service.endpoints.documents import event_schema, healthz, index, metrics, openapi, readyz
from service.endpoints.session import logout, session
from service.endpoints.sessions import sessions
from service.endpoints.sign_outs import SignOutLimit, SingleFlight
from service.endpoints.state import AppState
from service.endpoints.webhook import MAX_LARGE_BODIES, webhook
from service.events.flood import FloodControl
from service.events.outputs import Output
from service.resources import open_resources
from service.settings import Settings
from service.telemetry.diagnostics import LogThrottle
from service.telemetry.metrics import Metrics

ROUTES = (
    Route(SESSION, logout, methods=["DELETE"]),
    Route(SESSION, session, methods=["GET"]),
    Route("/v1/auth/sessions", sessions, methods=["DELETE"]),
    Route("/v1/webhooks/clerk", webhook, methods=["POST"]),
    Route("/v1/events/schema", event_schema, methods=["GET"]),
    Route("/", index, methods=["GET"]),
    Route("/openapi.json", openapi, methods=["GET"]),
    Route("/healthz", healthz, methods=["GET"]),
    Route("/readyz", readyz, methods=["GET"]),
    Route("/metrics", metrics, methods=["GET"]),
)


def create_app(settings: Settings, *, event_log: Output | None = None) -> Starlette:
    """Build the application. Nothing is opened before its lifespan starts, which raises a ``ConfigurationError``.

    Args:
        settings: what it is told.
        event_log: where the lines go; the lifespan closes it. Without it the lifespan opens what EVENT_LOG names.
    """
    counted = Metrics()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[AppState]:
        async with AsyncExitStack() as stack:
            resources = await stack.enter_async_context(open_resources(settings, counted, event_log=event_log))
            flood = FloodControl(
                settings.flood_per_second, settings.flood_per_session, resources.recorder.record, counted
            )
            stack.push_async_callback(flood.close)
            sign_outs = SingleFlight()
            stack.push_async_callback(sign_outs.close)
            if resources.clerk is not None:
                warming_up = asyncio.create_task(resources.clerk.warm_up(), name="warm-up")
                stack.callback(warming_up.cancel)
            counted.ready.set_function(lambda: resources.is_ready)
            secrets = [secret.get_secret_value() for secret in settings.clerk_webhook_signing_secret]
            yield {
                "resources": resources,
                "flood": flood,
                "sign_outs": sign_outs,
                "sign_out_limit": SignOutLimit(),
                "webhook_reader": WebhookReader(secrets) if secrets else None,
                "large_bodies": asyncio.Semaphore(MAX_LARGE_BODIES),
                "throttle": LogThrottle(),
            }

    app = Starlette(
        middleware=[
            Middleware(
                ResponseHeaders,
                origins=settings.clerk_authorized_parties,
                routes=ROUTES,
                metrics=counted,
            )
        ],
        exception_handlers={HTTPException: _problem},
    )
    app.router = ExactRouter(ROUTES, lifespan)
    return app


async def _problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - what it is registered for
    return JSONResponse(
        {"success": False, "message": error.detail}, status_code=error.status_code, headers=error.headers
    )

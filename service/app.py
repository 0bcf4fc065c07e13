"""The one place that joins the rooms: settings in, application out."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from service.clerk.keys import PemKey
from service.clerk.verifier import Verifier
from service.cross_origin import CrossOrigin
from service.endpoints.event_schema import event_schema
from service.endpoints.health import healthz
from service.endpoints.logout import Logout
from service.endpoints.metrics import KEPT_FOR, MetricsText
from service.endpoints.openapi import openapi
from service.endpoints.readiness import readiness_counted, readyz
from service.endpoints.responses import JSONResponse
from service.endpoints.routing import Application
from service.endpoints.session import session
from service.endpoints.sessions import EndSessions
from service.endpoints.state import AppState, Part
from service.endpoints.webhook import ClerkWebhook
from service.events.flood import FloodControl
from service.events.outputs import Output
from service.guard.session_check import SessionCheck
from service.metrics import Metrics
from service.middleware import Durations, ResponseHeaders
from service.request.client import ClientAddress
from service.request.context import RequestFacts
from service.resources import load_pem_key, open_clerk_api, open_keys, open_recorder, open_revocations
from service.settings import Settings

METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "POST")
"""What our paths have between them; OPTIONS is the browsers' preflight."""


def create_app(settings: Settings, event_log: Output | None = None, metrics: Metrics | None = None) -> Starlette:
    """Build the application. Nothing is opened before its lifespan starts.

    Args:
        settings: what it is told.
        event_log: where the lines go; the lifespan closes it. Without it the lifespan opens what EVENT_LOG names.
        metrics: where everything is counted; new ones unless several workers count together.

    Raises:
        ConfigurationError: a setting turns out to be unusable; its text names the variable.
    """
    pem_key = load_pem_key(settings)
    origins = settings.clerk_authorized_parties
    client_address = ClientAddress(settings.forwarded_allow_ips)
    facts = RequestFacts(
        origins=origins,
        client_address=client_address,
        with_client_ip=settings.event_client_ip,
        with_user_agent=settings.event_user_agent,
    )
    logout = Logout(client_address, facts)
    end_sessions = EndSessions(facts, reverification_max_age=settings.reverification_max_age_minutes)
    metrics = metrics or Metrics()
    metrics_text = MetricsText(metrics.exposed, kept_for=KEPT_FOR if settings.workers == 1 else 0)
    routes = [
        Route("/v1/auth/session", logout, methods=["DELETE"]),
        Route("/v1/auth/session", session, methods=["GET"]),
        Route("/v1/auth/sessions", end_sessions.delete, methods=["DELETE"]),
        Route("/v1/webhooks/clerk", ClerkWebhook(settings, metrics).post, methods=["POST"]),
        Route("/v1/events/schema", event_schema, methods=["GET"]),
        Route("/openapi.json", openapi, methods=["GET"]),
        Route("/healthz", healthz, methods=["GET"]),
        Route("/readyz", readyz, methods=["GET"]),
        Route("/metrics", metrics_text.get, methods=["GET"]),
    ]
    durations = Durations(metrics, [route.path for route in routes], METHODS)

    def around(app: ASGIApp) -> ASGIApp:
        return ResponseHeaders(app, durations, CrossOrigin(origins) if origins else None)

    return Application(
        routes,
        _lifespan(
            settings,
            pem_key=pem_key,
            event_log=event_log,
            facts=facts,
            metrics=metrics,
            end_sessions=end_sessions,
        ),
        problem=_problem,
        always_answers=("DELETE", "/v1/auth/session"),
        around=around,
    )


def _lifespan(
    settings: Settings,
    *,
    pem_key: PemKey | None,
    event_log: Output | None,
    facts: RequestFacts,
    metrics: Metrics,
    end_sessions: EndSessions,
) -> Callable[[Starlette], AbstractAsyncContextManager[AppState]]:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[AppState]:
        async with AsyncExitStack() as stack:
            recorder, log = await stack.enter_async_context(open_recorder(settings, metrics, event_log))
            flood = FloodControl(settings.flood_per_second, recorder.record, metrics)
            stack.push_async_callback(flood.close)
            clerk = await stack.enter_async_context(open_clerk_api(settings, metrics))
            keys = await stack.enter_async_context(open_keys(pem_key, clerk, metrics))
            verifier = Verifier(
                keys,
                authorized_parties=settings.clerk_authorized_parties,
                issuer=settings.clerk_issuer,
            )
            revocations = await stack.enter_async_context(open_revocations(settings, metrics))
            session_check = SessionCheck(
                verifier,
                revocations,
                recorder,
                facts,
                fail=settings.revocations_fail,
                metrics=metrics,
            )
            stack.push_async_callback(end_sessions.close)
            parts: dict[str, Part] = {"keys": keys, "spool": log}
            await stack.enter_async_context(readiness_counted(parts, metrics))
            yield {
                "verifier": verifier,
                "clerk": clerk,
                "recorder": recorder,
                "flood": flood,
                "revocations": revocations,
                "session_check": session_check,
                "parts": parts,
                "stop": end_sessions.stop,
                "other_parts": {"revocations": revocations},
            }

    return lifespan


async def _problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - what it is registered for
    return JSONResponse(
        {"success": False, "message": error.detail}, status_code=error.status_code, headers=error.headers
    )

"""The one place that joins the rooms: settings in, application out."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service import __version__
from service.clerk.backend_api import backend_api, client_problem
from service.clerk.keys import KeyRing, Keys, PemKey
from service.clerk.verifier import Verifier
from service.endpoints.event_schema import event_schema
from service.endpoints.health import healthz
from service.endpoints.logout import Logout
from service.endpoints.responses import JSONResponse
from service.endpoints.state import AppState
from service.events.flood import FloodControl
from service.events.log import EventLog
from service.events.outputs import Output, open_output
from service.events.recorder import Recorder
from service.metrics import Metrics
from service.middleware import ResponseHeaders
from service.settings import ConfigurationError, Settings

CORS_MAX_AGE = 7200
"""Seconds a browser may remember a preflight: the most that Chromium keeps one."""
CORS_HEADERS = (
    # By name, because `*` does not cover Authorization (Fetch standard, "CORS non-wildcard request-header name").
    "Authorization",
    "X-Request-ID",
    # What tracing libraries add to every fetch; a preflight refused because of them would lose the logout.
    "traceparent",
    "tracestate",
    "baggage",
    "sentry-trace",
    "newrelic",
    "x-datadog-origin",
    "x-datadog-parent-id",
    "x-datadog-sampling-priority",
    "x-datadog-tags",
    "x-datadog-trace-id",
)


def create_app(settings: Settings, event_log: Output | None = None) -> Starlette:
    """Build the application. Nothing is opened before its lifespan starts.

    Args:
        settings: what it is told.
        event_log: where the lines go; the lifespan closes it. Without it the lifespan opens what EVENT_LOG names.

    Raises:
        ConfigurationError: a setting turns out to be unusable; its text names the variable.
    """
    pem_key = load_pem_key(settings)
    origins = settings.clerk_authorized_parties
    logout = Logout(
        origins=frozenset(origins),
        with_client_ip=settings.event_client_ip,
        with_user_agent=settings.event_user_agent,
    )
    middleware = [Middleware(ResponseHeaders)]
    if origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=origins,
                allow_methods=("DELETE", "GET"),
                allow_headers=CORS_HEADERS,
                allow_credentials=True,
                expose_headers=("X-Request-ID",),
                max_age=CORS_MAX_AGE,
            )
        )
    app = Starlette(
        routes=[
            Route("/v1/auth/session", logout.delete, methods=["DELETE"]),
            Route("/v1/events/schema", event_schema, methods=["GET"]),
            Route("/healthz", healthz, methods=["GET"]),
        ],
        middleware=middleware,
        exception_handlers={HTTPException: _problem},
        lifespan=_lifespan(settings, pem_key, event_log),
    )
    # A redirect would cost the caller a second request that may never be sent.
    app.router.redirect_slashes = False
    return app


def load_pem_key(settings: Settings) -> PemKey | None:
    """Parse ``CLERK_JWT_KEY``, or give None where it is not set.

    Raises:
        ConfigurationError: it cannot be used.
    """
    if settings.clerk_jwt_key is None:
        return None
    try:
        return PemKey(settings.clerk_jwt_key.get_secret_value())
    except ValueError as error:
        raise ConfigurationError("CLERK_JWT_KEY", str(error)) from None


def open_event_log(settings: Settings) -> Output:
    """Open what ``EVENT_LOG`` names.

    Raises:
        ConfigurationError: it cannot be opened.
    """
    try:
        return open_output(settings.event_log)
    except OSError as error:
        raise ConfigurationError("EVENT_LOG", f"cannot be opened for writing: {error.strerror}") from None


def check_event_log(settings: Settings) -> None:
    """Check that the event log could be opened, without creating it or disturbing who reads it.

    Whoever asks may be another user than the service's, and must not leave a file that the service cannot open.

    Raises:
        ConfigurationError: it could not be opened.
    """
    path = Path(settings.event_log)
    try:
        is_fifo, exists = path.is_fifo(), path.exists()
    except OSError as error:
        raise ConfigurationError("EVENT_LOG", f"cannot be opened for writing: {error.strerror}") from None
    if settings.event_log == "-" or (exists and not is_fifo):
        open_event_log(settings).close()
    elif not os.access(path if is_fifo else path.parent, os.W_OK):
        raise ConfigurationError(
            "EVENT_LOG", "cannot be opened for writing: its directory is not there, or not allowed"
        )


def check_clerk_api(settings: Settings) -> None:
    """Check that a client for Clerk's API could be made, in the environment's view of proxies and certificates.

    Raises:
        ConfigurationError: it could not.
    """
    if settings.clerk_jwt_key is None and (problem := client_problem(settings.clerk_api_url)) is not None:
        raise ConfigurationError("CLERK_API_URL", problem)


@asynccontextmanager
async def open_keys(settings: Settings, pem_key: PemKey | None) -> AsyncIterator[Keys]:
    """Open the keys that verify tokens: the PEM, else a key ring that keeps itself fresh from Clerk."""
    if pem_key is not None or settings.clerk_secret_key is None:
        assert pem_key is not None, "Settings hold a PEM or a secret key"  # noqa: S101 - tells mypy what Settings ensure
        yield pem_key
        return
    secret_key = settings.clerk_secret_key.get_secret_value()
    async with backend_api(settings.clerk_api_url, secret_key) as api, KeyRing(api.jwks).kept_fresh() as ring:
        yield ring


def _lifespan(
    settings: Settings, pem_key: PemKey | None, event_log: Output | None
) -> Callable[[Starlette], AbstractAsyncContextManager[AppState]]:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[AppState]:
        async with AsyncExitStack() as stack:
            log = EventLog(event_log or open_event_log(settings))
            stack.push_async_callback(log.close)
            verifier = Verifier(
                await stack.enter_async_context(open_keys(settings, pem_key)),
                authorized_parties=settings.clerk_authorized_parties,
                issuer=settings.clerk_issuer,
            )
            recorder = Recorder(log, __version__)
            flood = FloodControl(settings.flood_per_second, recorder.record, Metrics())
            # After the log's, so that it runs before: the last summary needs the log.
            stack.push_async_callback(flood.close)
            yield {"verifier": verifier, "recorder": recorder, "flood": flood}

    return lifespan


async def _problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - what it is registered for
    return JSONResponse(
        {"success": False, "message": error.detail}, status_code=error.status_code, headers=error.headers
    )

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

from service import __version__
from service.clerk.backend_api import backend_api, client_problem
from service.clerk.keys import KeyRing, PemKey
from service.clerk.verifier import Verifier
from service.endpoints.client import ClientAddress
from service.endpoints.event_schema import event_schema
from service.endpoints.health import healthz
from service.endpoints.logout import Logout
from service.endpoints.metrics import KEPT_FOR, MetricsText
from service.endpoints.readiness import readiness_counted, readyz
from service.endpoints.responses import JSONResponse
from service.endpoints.routing import ExactRoute
from service.endpoints.state import AppState, Part
from service.events.flood import FloodControl
from service.events.log import EventLog
from service.events.outputs import Output, open_output
from service.events.recorder import Recorder
from service.events.spool import Spool
from service.metrics import Metrics
from service.middleware import Durations, ResponseHeaders
from service.settings import ConfigurationError, Settings

METHODS = ("DELETE", "GET", "HEAD", "OPTIONS")
"""What our paths have between them; OPTIONS is the browsers' preflight."""
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
    logout = Logout(
        origins=frozenset(origins),
        client_address=ClientAddress(settings.forwarded_allow_ips),
        with_client_ip=settings.event_client_ip,
        with_user_agent=settings.event_user_agent,
    )
    metrics = metrics or Metrics()
    metrics_text = MetricsText(metrics.exposed, kept_for=KEPT_FOR if settings.workers == 1 else 0)
    routes = [
        ExactRoute("/v1/auth/session", logout.delete, methods=["DELETE"]),
        ExactRoute("/v1/events/schema", event_schema, methods=["GET"]),
        ExactRoute("/healthz", healthz, methods=["GET"]),
        ExactRoute("/readyz", readyz, methods=["GET"]),
        ExactRoute("/metrics", metrics_text.get, methods=["GET"]),
    ]
    durations = Durations(metrics, [route.path for route in routes], METHODS)
    middleware = [Middleware(ResponseHeaders, durations)]
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
        routes=routes,
        middleware=middleware,
        exception_handlers={HTTPException: _problem},
        lifespan=_lifespan(settings, pem_key, event_log, metrics),
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


def open_event_log(settings: Settings, *, must_open: bool = True) -> Output:
    """Open what ``EVENT_LOG`` names.

    Args:
        settings: name it.
        must_open: False where it was open before: what cannot be opened now may be opened later.

    Raises:
        ConfigurationError: it cannot be opened, and must be.
    """
    try:
        return open_output(settings.event_log, fsync=settings.event_fsync, must_open=must_open)
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


def check_spool(settings: Settings) -> None:
    """Check that the spool's directory is there or could be made, without making it.

    Raises:
        ConfigurationError: neither.
    """
    path = Path(settings.event_spool_dir).absolute()
    try:
        while not path.exists():
            path = path.parent
    except OSError as error:
        raise ConfigurationError("EVENT_SPOOL_DIR", f"cannot be used: {error.strerror}") from None
    if path == Path(settings.event_spool_dir).absolute() and path.stat().st_uid not in {0, os.geteuid()}:
        raise ConfigurationError("EVENT_SPOOL_DIR", "belongs to another user, who could put events of his own there")
    if not path.is_dir() or not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise ConfigurationError(
            "EVENT_SPOOL_DIR", "cannot be written to; name a directory on local disk that this user may write to"
        )


def check_clerk_api(settings: Settings) -> None:
    """Check that a client for Clerk's API could be made, in the environment's view of proxies and certificates.

    Raises:
        ConfigurationError: it could not.
    """
    if settings.clerk_jwt_key is None and (problem := client_problem(settings.clerk_api_url)) is not None:
        raise ConfigurationError("CLERK_API_URL", problem)


@asynccontextmanager
async def open_keys(
    settings: Settings, pem_key: PemKey | None, metrics: Metrics | None = None
) -> AsyncIterator[PemKey | KeyRing]:
    """Open the keys that verify tokens: the PEM, else a key ring that keeps itself fresh from Clerk."""
    if pem_key is not None or settings.clerk_secret_key is None:
        assert pem_key is not None, "Settings hold a PEM or a secret key"  # noqa: S101 - tells mypy what Settings ensure
        yield pem_key
        return
    secret_key = settings.clerk_secret_key.get_secret_value()
    async with (
        backend_api(settings.clerk_api_url, secret_key) as api,
        KeyRing(api.jwks, metrics=metrics).kept_fresh() as ring,
    ):
        yield ring


def _lifespan(
    settings: Settings, pem_key: PemKey | None, event_log: Output | None, metrics: Metrics
) -> Callable[[Starlette], AbstractAsyncContextManager[AppState]]:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[AppState]:
        async with AsyncExitStack() as stack:
            spool = Spool(settings.event_spool_dir, settings.event_spool_max_bytes, fsync=settings.event_fsync)
            log = EventLog(event_log or open_event_log(settings), spool, metrics)
            await log.start()
            stack.push_async_callback(log.close)
            recorder = Recorder(log, __version__, metrics)
            flood = FloodControl(settings.flood_per_second, recorder.record, metrics)
            stack.push_async_callback(flood.close)
            keys = await stack.enter_async_context(open_keys(settings, pem_key, metrics))
            verifier = Verifier(
                keys,
                authorized_parties=settings.clerk_authorized_parties,
                issuer=settings.clerk_issuer,
            )
            parts: dict[str, Part] = {"keys": keys, "spool": log}
            await stack.enter_async_context(readiness_counted(parts, metrics))
            yield {"verifier": verifier, "recorder": recorder, "flood": flood, "parts": parts}

    return lifespan


async def _problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - what it is registered for
    return JSONResponse(
        {"success": False, "message": error.detail}, status_code=error.status_code, headers=error.headers
    )

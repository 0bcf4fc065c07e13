"""Pages of other origins may call us: those of the application, and no others."""

from collections.abc import Collection

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

METHODS = ("DELETE", "GET")
MAX_AGE = 7200
"""Seconds a browser may remember a preflight: the most that Chromium keeps one."""
REQUEST_HEADERS = (
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
EXPOSED_HEADERS = ("X-Request-ID", "WWW-Authenticate", "Retry-After")

ResponseFields = list[tuple[bytes, bytes]]


def answering_preflights(app: ASGIApp, origins: Collection[str]) -> ASGIApp:
    """Put Starlette's answers to preflights before what answers any other ``OPTIONS`` request."""
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=METHODS,
        allow_headers=REQUEST_HEADERS,
        allow_credentials=True,
        expose_headers=EXPOSED_HEADERS,
        max_age=MAX_AGE,
    )


def response_headers(origins: Collection[str]) -> tuple[dict[bytes, ResponseFields], ResponseFields]:
    """Give what other responses carry, by the request's origin, and for any other origin (Fetch standard, section 3.3).

    Starlette's middleware would add the same, and copy the headers of request and response for it.
    """
    vary = [(b"vary", b"Origin")] if origins else []
    by_origin = {
        origin.encode("ascii"): [
            *vary,
            (b"access-control-allow-origin", origin.encode("ascii")),
            (b"access-control-allow-credentials", b"true"),
            (b"access-control-expose-headers", ", ".join(EXPOSED_HEADERS).encode("ascii")),
        ]
        for origin in origins
    }
    return by_origin, vary

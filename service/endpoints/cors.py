"""Pages of other origins may call us: those of the application, and no others."""

from collections.abc import Collection, Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from service.events.request_head import NONE, Headers

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

_VARY = (b"vary", b"Origin")
_ANY = [_VARY]


class Cors:
    """CORS with credentials (Fetch standard, section 3.3).

    Preflights are answered by Starlette's middleware. To any other response that would add the same headers, but look
    up and copy those of request and response for it; what it would add is known beforehand.

    Args:
        origins: those that are allowed.
    """

    def __init__(self, origins: Collection[str]) -> None:
        self._origins = origins
        self._headers = {
            origin.encode("ascii"): [
                _VARY,
                (b"access-control-allow-origin", origin.encode("ascii")),
                (b"access-control-allow-credentials", b"true"),
                (b"access-control-expose-headers", ", ".join(EXPOSED_HEADERS).encode("ascii")),
            ]
            for origin in origins
        }

    def answering_preflights(self, app: ASGIApp) -> ASGIApp:
        """Put the answers to preflights before what answers any other ``OPTIONS`` request."""
        return CORSMiddleware(
            app,
            allow_origins=self._origins,
            allow_methods=METHODS,
            allow_headers=REQUEST_HEADERS,
            allow_credentials=True,
            expose_headers=EXPOSED_HEADERS,
            max_age=MAX_AGE,
        )

    def headers(self, sent: Headers) -> Sequence[tuple[bytes, bytes]]:
        """Give what says who may read the response to a request that is no ``OPTIONS``.

        Args:
            sent: the request's headers.
        """
        return self._headers.get(sent.get(b"origin", NONE)[0], _ANY)

"""Pages of other origins may call us: those of the application, and no others."""

from collections.abc import Collection

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.request.headers import first_values

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


class CrossOrigin:
    """Pure ASGI middleware for CORS with credentials (Fetch standard, section 3.3).

    Preflights are answered by Starlette's middleware. To any other response that would add the same headers, but look
    up and copy those of request and response for it; what it would add is known beforehand, so it is added here.

    Args:
        app: what is called.
        origins: those that are allowed.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        self._app = app
        self._options = CORSMiddleware(
            app,
            allow_origins=origins,
            allow_methods=METHODS,
            allow_headers=REQUEST_HEADERS,
            allow_credentials=True,
            expose_headers=EXPOSED_HEADERS,
            max_age=MAX_AGE,
        )
        self._headers = {
            origin.encode("ascii"): [
                _VARY,
                (b"access-control-allow-origin", origin.encode("ascii")),
                (b"access-control-allow-credentials", b"true"),
                (b"access-control-expose-headers", ", ".join(EXPOSED_HEADERS).encode("ascii")),
            ]
            for origin in origins
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; when its response starts, say who may read it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "OPTIONS":
            await self._options(scope, receive, send)
            return
        headers = self._headers.get(first_values(scope["headers"]).get(b"origin", b""), _ANY)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        await self._app(scope, receive, send_with_headers)

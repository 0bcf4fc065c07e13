"""Pages of other origins may call us: those of the application, and no others (Fetch standard, section 3.3)."""

import logging
import re
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from service.events.request import printable
from service.telemetry.diagnostics import LogThrottle
from service.telemetry.metrics import Metrics

logger = logging.getLogger("service.cors")

METHODS = ("DELETE", "GET", "HEAD")
MAX_AGE = 7200
"""Seconds a browser may remember a preflight: the most that Chromium keeps one."""

_is_field_name = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch  # RFC 9110, section 5.6.2


class Preflights:
    """Answers preflights, and passes any other ``OPTIONS`` request on.

    Every header that is asked for is granted by its name: tracing libraries add dozens to each fetch, a preflight that
    is refused because of one loses the logout, and ``*`` does not cover Authorization. Access to a private network is
    not granted. A refused preflight is counted, and one a minute is told: nothing else says why no logout comes.

    Args:
        app: what is called otherwise.
        origins: whose pages may call; without any, no preflight is answered here.
        metrics: where refused ones are counted.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str], metrics: Metrics) -> None:
        self._app = app
        self._origins = frozenset(origins)
        self._refused = metrics.preflights_refused
        self._throttle = LogThrottle()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 200 with the permission, or 400 with what is wrong."""
        headers, answer = Headers(scope=scope), self._app
        if "origin" in headers and "access-control-request-method" in headers:
            answer = self._answer(headers)
        await answer(scope, receive, send)

    def _answer(self, headers: Headers) -> ASGIApp:
        origin, problem = headers["origin"], None
        # A list may come as several fields, and with empty entries (RFC 9110, sections 5.3 and 5.6.1).
        entries = ",".join(headers.getlist("access-control-request-headers")).split(",")
        names = [name for name in (entry.strip(" \t") for entry in entries) if name]
        if origin not in self._origins:
            problem = "this origin is not in CLERK_AUTHORIZED_PARTIES"
        elif headers["access-control-request-method"] not in METHODS:
            problem = "the method is none of DELETE, GET and HEAD"
        elif not all(map(_is_field_name, names)):
            problem = "a name in Access-Control-Request-Headers is none"
        if problem is not None:
            self._refused.inc()
            if self._throttle.may_say("preflight"):
                logger.warning("a preflight from %s was refused: %s", printable(origin), problem)
            return PlainTextResponse(f"{problem}\n", 400, {"Vary": "Origin"}) if self._origins else self._app
        granted = {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Credentials": "true",
            "Access-Control-Allow-Methods": ", ".join(METHODS),
            "Access-Control-Max-Age": str(MAX_AGE),
            "Vary": "Origin, Access-Control-Request-Headers",
        }
        if names:
            granted["Access-Control-Allow-Headers"] = ", ".join(names)
        return PlainTextResponse("OK", headers=granted)


def response_headers(origin: str) -> list[tuple[bytes, bytes]]:
    """Give what other responses to an allowed origin carry.

    Starlette's middleware would add the same, and copy the headers of request and response for it.
    """
    return [
        (b"vary", b"Origin"),
        (b"access-control-allow-origin", origin.encode("ascii")),
        (b"access-control-allow-credentials", b"true"),
        (b"access-control-expose-headers", b"X-Request-ID, WWW-Authenticate, Retry-After"),
    ]

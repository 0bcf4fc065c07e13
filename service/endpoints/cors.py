"""Pages of other origins may call us: those of the application, and no others (Fetch standard, section 3.3)."""

import logging
from collections.abc import Collection
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from service.events.request import printable
from service.telemetry.diagnostics import LogThrottle
from service.telemetry.metrics import Metrics

logger = logging.getLogger("service.cors")

METHODS = ("DELETE", "GET", "HEAD")
MAX_AGE = 7200
"""Seconds a browser may remember a preflight: the most that Chromium keeps one."""


class Preflights(CORSMiddleware):
    """Answers preflights as Starlette does, and passes any other ``OPTIONS`` request on.

    Every header that is asked for is granted by its name: tracing libraries add dozens to each fetch, a preflight that
    is refused because of one loses the logout, and ``*`` does not cover Authorization. Access to a private network is
    not granted, but asking for it is no mistake. A refused preflight is counted, and one a minute is told: nothing else
    says why no logout comes.

    Args:
        app: what is called otherwise.
        origins: whose pages may call.
        metrics: where refused ones are counted.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str], metrics: Metrics) -> None:
        super().__init__(app, origins, METHODS, ["*"], allow_credentials=True, max_age=MAX_AGE)
        self._refused = metrics.preflights_refused
        self._throttle = LogThrottle()

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer 200 with the permission, or 400 with what is wrong."""
        asked = [field for field in request_headers.raw if field[0] != b"access-control-request-private-network"]
        response = super().preflight_response(Headers(raw=asked))
        if response.status_code != HTTPStatus.OK:
            self._refused.inc()
            if self._throttle.may_say("preflight"):
                told = printable(request_headers["origin"]), bytes(response.body).decode()
                logger.warning("a preflight from %s was refused: %s (origins: CLERK_AUTHORIZED_PARTIES)", *told)
        return response

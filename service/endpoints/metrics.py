"""``GET /metrics``: what the service counts, as Prometheus text or OpenMetrics. Asks nobody and writes no event."""

import math
import time
from collections.abc import Callable

from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from service.endpoints.state import State

KEPT_FOR = 1.0
"""Seconds that a text is kept: rendering one costs as much as 50 logouts, and anybody may ask."""
OPENMETRICS = "application/openmetrics-text"


class MetricsText:
    """The endpoint.

    Args:
        exposed: what is shown; of several workers the numbers of all.
        kept_for: seconds that a text is kept. With several workers 0: an older text of another one would go back.
        clock: seconds.
    """

    def __init__(
        self, exposed: Collector, *, kept_for: float = KEPT_FOR, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._kept_for = kept_for
        self._exposed = exposed
        self._clock = clock
        self._kept: dict[str, tuple[float, bytes]] = {}

    async def get(self, request: Request[State]) -> Response:
        """Answer in the format that the caller accepts, at most a second old."""
        accepted = _accepted(request.headers.get("accept", ""))
        encode, content_type = choose_encoder(accepted)
        until, text = self._kept.get(accepted, (-math.inf, b""))
        if self._clock() >= until:
            text = encode(self._exposed)
            self._kept[accepted] = self._clock() + self._kept_for, text
        return Response(text, headers={"Content-Type": content_type})


def _accepted(accept: str) -> str:
    """The one of our two formats that an ``Accept`` header asks for, by prometheus-client's rules."""
    try:
        _, content_type = choose_encoder(accept)
    except TypeError:  # prometheus-client's, about a version that is no number
        return ""
    return OPENMETRICS if content_type.startswith(OPENMETRICS) else ""

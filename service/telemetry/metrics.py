"""What the service counts about itself, for Prometheus. No label ever names a user, a session or an address."""

import math
import time
from collections.abc import Callable
from functools import cached_property
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics import MetricWrapperBase

DURATION_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Seconds."""
KEPT_FOR = 1.0
"""Seconds that a text is kept: rendering one costs as much as 50 logouts, and anybody may ask."""
OPENMETRICS = "application/openmetrics-text"

Instrument = TypeVar("Instrument", bound=MetricWrapperBase)


class Children(dict[tuple[str, ...], Instrument]):
    """The children of a labelled instrument by their label values, each looked up once: ``labels()`` takes a lock."""

    def __init__(self, parent: Instrument) -> None:
        super().__init__()
        self._parent: Instrument = parent

    def __missing__(self, values: tuple[str, ...]) -> Instrument:
        child: Instrument = self._parent.labels(*values)
        self[values] = child
        return child


class Metrics:
    """The numbers of the process.

    Args:
        clock: seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.registry = registry = CollectorRegistry()
        self._clock = clock
        self._kept: dict[str, tuple[float, bytes]] = {}
        self.events = Counter(
            "clerk_logout_events",
            "Events written, to the event log or to the spool.",
            ["event", "auth", "reason"],
            registry=registry,
        )
        self.lost = Counter(
            "clerk_logout_events_lost", "Events that neither the event log nor the spool took.", registry=registry
        )
        self.spooled = Counter(
            "clerk_logout_events_spooled",
            "Events written to the spool, because the event log took none.",
            registry=registry,
        )
        self.replayed = Counter(
            "clerk_logout_events_replayed", "Events delivered from the spool to the event log.", registry=registry
        )
        self.suppressed = Counter(
            "clerk_logout_calls_suppressed",
            "Calls that flood control counted instead of recording.",
            ["auth"],
            registry=registry,
        )
        self.revocations = Counter(
            "clerk_logout_revocations",
            "Sessions put on the revocation list (ok), or not (failed), or that had to leave it because it was full.",
            ["result"],
            registry=registry,
        )
        self.revocations_up = Gauge(
            "clerk_logout_revocations_up",
            "1 while the revocation list can be asked, else 0.",
            registry=registry,
        )
        self.session_checks = Counter(
            "clerk_logout_session_checks", "Requests that the guard looked at.", ["result"], registry=registry
        )
        self.clerk_requests = Counter(
            "clerk_logout_clerk_requests",
            "Calls to Clerk's Backend API about sessions.",
            ["call", "result"],
            registry=registry,
        )
        self.webhooks = Counter("clerk_logout_webhooks", "Webhooks received.", ["result"], registry=registry)
        for result in ("recorded", "ignored", "refused", "failed"):  # at 0 from the start: Prometheus sees the first
            self.webhooks.labels(result)
        self.spool_bytes = Gauge("clerk_logout_spool_bytes", "Bytes that wait in the spool.", registry=registry)
        self.ready = Gauge(
            "clerk_logout_ready",
            "1 while /readyz answers 200, else 0.",
            registry=registry,
        )
        self.key_fetches = Counter(
            "clerk_logout_key_fetches", "Fetches of Clerk's JWKS.", ["result"], registry=registry
        )
        self.request_duration = Histogram(
            "clerk_logout_request_duration_seconds",
            "Seconds from the request's headers to the response's.",
            ["method", "path", "status"],
            buckets=DURATION_BUCKETS,
            registry=registry,
        )

    @cached_property
    def keys_fetched_at(self) -> Gauge:
        """Made when a key ring asks for it: a PEM is never fetched, and a 0 would say that no key is at hand."""
        gauge = Gauge(
            "clerk_logout_keys_fetched_timestamp_seconds",
            "When the keys were last fetched, in seconds since 1970; 0 while none are at hand. Absent with a PEM.",
            registry=self.registry,
        )
        gauge.set(0)
        return gauge

    def text(self, accept: str) -> tuple[bytes, str]:
        """Render all numbers, at most a second old.

        Args:
            accept: an ``Accept`` header, which chooses between Prometheus text and OpenMetrics.

        Returns:
            The text, and its content type.
        """
        accepted = _accepted(accept)
        encode, content_type = choose_encoder(accepted)
        until, text = self._kept.get(accepted, (-math.inf, b""))
        if self._clock() >= until:
            text = encode(self.registry)
            self._kept[accepted] = self._clock() + KEPT_FOR, text
        return text, content_type


def _accepted(accept: str) -> str:
    """The one of our two formats that an ``Accept`` header asks for, by prometheus-client's rules."""
    try:
        _, content_type = choose_encoder(accept)
    except TypeError:  # prometheus-client's, about a version that is no number
        return ""
    return OPENMETRICS if content_type.startswith(OPENMETRICS) else ""

"""What the service counts about itself, for Prometheus. No label ever names a user, a session or an address."""

from functools import cached_property
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics import MetricWrapperBase

DURATION_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Seconds."""
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
    """The instruments of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        count, gauge = self._counter, self._gauge
        self.events = count("events", "Events written, to the event log or to the spool.", "event", "auth", "reason")
        self.lost = count("events_lost", "Events that neither the event log nor the spool took.")
        self.spooled = count("events_spooled", "Events written to the spool, because the event log took none.")
        self.replayed = count("events_replayed", "Events delivered from the spool to the event log.")
        self.suppressed = count("calls_suppressed", "Calls that flood control counted instead of recording.", "auth")
        self.revocations = count("revocations", "Sessions put on the revocation list, or dropped from it.", "result")
        self.revocations_up = gauge("revocations_up", "1 while the revocation list can be asked, else 0.")
        self.session_checks = count("session_checks", "Requests that the guard looked at.", "result")
        self.clerk_requests = count("clerk_requests", "Calls to Clerk's Backend API about sessions.", "call", "result")
        self.preflights_refused = count("preflights_refused", "CORS preflights that were refused.")
        self.webhooks = count("webhooks", "Webhooks received.", "result")
        for result in ("recorded", "ignored", "refused", "failed"):  # at 0 from the start: Prometheus sees the first
            self.webhooks.labels(result)
        self.spool_bytes = gauge("spool_bytes", "Bytes that wait in the spool.")
        self.ready = gauge("ready", "1 while /readyz answers 200, else 0.")
        self.key_fetches = count("key_fetches", "Fetches of Clerk's JWKS.", "result")
        self.request_duration = Histogram(
            "clerk_logout_request_duration_seconds",
            "Seconds from the request's headers to the response's.",
            ["method", "path", "status"],
            buckets=DURATION_BUCKETS,
            registry=self.registry,
        )

    def _counter(self, name: str, documentation: str, *labels: str) -> Counter:
        return Counter(f"clerk_logout_{name}", documentation, labels, registry=self.registry)

    def _gauge(self, name: str, documentation: str) -> Gauge:
        return Gauge(f"clerk_logout_{name}", documentation, registry=self.registry)

    @cached_property
    def keys_fetched_at(self) -> Gauge:
        """Made when a key ring asks for it: a PEM is never fetched, and a 0 would say that no key is at hand."""
        return self._gauge(
            "keys_fetched_timestamp_seconds",
            "When the keys were last fetched, in seconds since 1970; 0 while none are at hand. Absent with a PEM.",
        )

    def text(self, accept: str) -> tuple[bytes, str]:
        """Render all numbers, in OpenMetrics if ``accept`` names it; and give its content type."""
        encode, content_type = choose_encoder(OPENMETRICS if OPENMETRICS in accept else "")
        return encode(self.registry), content_type

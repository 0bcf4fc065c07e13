"""What the service counts about itself, for Prometheus. No label ever names a user, a session or an address."""

from functools import cached_property
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, values
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

DURATION_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Seconds."""

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
    """The numbers of one process.

    Args:
        exposed: what ``GET /metrics`` shows, where it is more than the numbers of this process.
    """

    def __init__(self, exposed: Collector | None = None) -> None:
        self.registry = registry = CollectorRegistry()
        self.exposed: Collector = registry if exposed is None else exposed
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
            "1 while the revocation list can be asked, else 0; of several workers the worst.",
            registry=registry,
            multiprocess_mode="livemin",
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
        self.spool_bytes = Gauge(
            "clerk_logout_spool_bytes", "Bytes that wait in the spool.", registry=registry, multiprocess_mode="livesum"
        )
        self.ready = Gauge(
            "clerk_logout_ready",
            "1 while /readyz answers 200, else 0; of several workers the worst.",
            registry=registry,
            multiprocess_mode="livemin",
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
        # A worker finds in shared memory what the one before it left there. Counters go on from it, gauges do not.
        self.spool_bytes.set(0)
        self.ready.set(0)
        self.revocations_up.set(0)

    @cached_property
    def keys_fetched_at(self) -> Gauge:
        """Made when a key ring asks for it: a PEM is never fetched, and a 0 would say that no key is at hand."""
        gauge = Gauge(
            "clerk_logout_keys_fetched_timestamp_seconds",
            "When the keys were last fetched, in seconds since 1970; 0 while none are at hand. Absent with a PEM.",
            registry=self.registry,
            multiprocess_mode="livemin",
        )
        gauge.set(0)
        return gauge


def count_alone() -> Metrics:
    """Give the metrics of a process that is the service's own, whatever PROMETHEUS_MULTIPROC_DIR says.

    Call it before anything else of prometheus-client is made: it settles for the whole process how that counts. So an
    application that imports the guard must not call it.
    """
    values.ValueClass = values.MutexValue
    # No `_created` series beside every counter: with several workers prometheus-client has none either.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    return Metrics()

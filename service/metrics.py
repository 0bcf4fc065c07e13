"""What the service counts about itself, for Prometheus. No label ever names a user, a session or an address."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

DURATION_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Seconds."""


class Metrics:
    """The numbers of one process. With several workers prometheus-client adds them up over files in shared memory."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
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
        self.spool_bytes = Gauge(
            "clerk_logout_spool_bytes", "Bytes that wait in the spool.", registry=registry, multiprocess_mode="livesum"
        )
        self.key_fetches = Counter(
            "clerk_logout_key_fetches", "Fetches of Clerk's JWKS.", ["result"], registry=registry
        )
        self.keys_fetched_at = Gauge(
            "clerk_logout_keys_fetched_timestamp_seconds",
            "When the keys were last fetched, in seconds since 1970; 0 while none are at hand.",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self.request_duration = Histogram(
            "clerk_logout_request_duration_seconds",
            "Seconds from the request's headers to the response's.",
            ["method", "path", "status"],
            buckets=DURATION_BUCKETS,
            registry=registry,
        )

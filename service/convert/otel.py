"""OpenTelemetry's log records with an event name, in the JSON of OTLP, one ``LogsData`` a line.

That is what the Collector's ``otlpjsonfile`` receiver reads: https://opentelemetry.io/docs/specs/otel/protocol/file-exporter.
"""

from typing import Any

from service.convert.event import Event, happened_at, microseconds, rest, without_none

_INFO = 9
_NAMES = {
    "event_id": "log.record.uid",
    "user_id": "user.id",
    "session_id": "session.id",
    "user_agent": "user_agent.original",
}
"""Our keys that the semantic conventions have a name for; the others are below ``clerk_logout.``."""


def otel(event: Event) -> dict[str, Any]:
    """Give the record, with its resource and scope."""
    told = rest(event, "event", "timestamp", "ended_at", "trace_id", "service", "service_version")
    service = {"service.name": "clerk-logout", "service.version": event.get("service_version")}
    record = {
        "timeUnixNano": _nanoseconds(happened_at(event)),
        "observedTimeUnixNano": _nanoseconds(event["timestamp"]),
        "severityNumber": _INFO,
        "severityText": "INFO",
        "eventName": f"clerk_logout.{event['event']}",
        "traceId": event.get("trace_id"),
        "attributes": [_attribute(_NAMES.get(key, f"clerk_logout.{key}"), value) for key, value in told.items()],
    }
    resource = {"attributes": [_attribute(key, value) for key, value in without_none(service).items()]}
    scope_logs = {"scope": {"name": "clerk-logout"}, "logRecords": [without_none(record)]}
    return {"resourceLogs": [{"resource": resource, "scopeLogs": [scope_logs]}]}


def _nanoseconds(moment: str) -> str:
    """OTLP's JSON has 64-bit integers as text."""
    return str(microseconds(moment) * 1000)


def _attribute(key: str, value: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    if isinstance(value, bool):
        return {"key": key, "value": {"boolValue": value}}
    if isinstance(value, int):
        return {"key": key, "value": {"intValue": str(value)}}
    return {"key": key, "value": {"stringValue": str(value)}}

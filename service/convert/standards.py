"""An event as OCSF, ECS and OpenTelemetry have it: one function a standard, from an event to an object of theirs."""

from datetime import datetime, timedelta
from typing import Any

Event = dict[str, Any]

_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00Z")

_ENDS = ("session_ended", "user_logout_everywhere")
"""The events that say that a session has ended; the others say that somebody wanted it, or used one."""
_TAKEN = (
    *("event", "event_id", "timestamp", "ended_at", "reason", "cause", "user_id", "org_id"),
    *("request_id", "user_agent", "service", "service_version"),
)
"""The keys that both ECS and OCSF have fields for."""
_STATUS_IDS = {"unknown": 0, "success": 1, "failure": 2}
"""OCSF's."""
_OTEL_NAMES = {
    "event_id": "log.record.uid",
    "user_id": "user.id",
    "session_id": "session.id",
    "user_agent": "user_agent.original",
}
"""Our keys that the semantic conventions have a name for; the others are below ``clerk_logout.``."""


def ecs(event: Event) -> dict[str, Any]:
    """Give the document of the Elastic Common Schema 9.4 (https://www.elastic.co/docs/reference/ecs).

    What ECS has no field for is in ``clerk_logout``.
    """
    user_id, actor_id = event.get("user_id"), event.get("actor_id")
    converted = {
        "@timestamp": _happened_at(event),
        "ecs": {"version": "9.4.0"},
        "event": {
            "id": event["event_id"],
            "kind": "event",
            "category": ["authentication", "session"],
            "type": ["end" if event["event"] in _ENDS else "info"],
            "action": event["event"],
            "outcome": _outcome(event),
            "reason": event.get("reason") or event.get("cause"),
            "dataset": "clerk_logout.events",
            "provider": "clerk-logout",
            "created": event["timestamp"],
            "start": event.get("window_start"),
            "end": event.get("window_end"),
        },
        "user": _user(event.get("initiated_by"), user_id, actor_id),
        "related": {"user": [one for one in (user_id, actor_id) if one is not None] or None},
        "organization": {"id": event.get("org_id")},
        "http": {"request": {"id": event.get("request_id")}},
        "trace": {"id": event.get("trace_id")},
        "user_agent": {"original": event.get("user_agent")},
        "service": {"name": "clerk-logout", "version": event.get("service_version")},
        "clerk_logout": _rest(event, *_TAKEN, "trace_id", "window_start", "window_end"),
    }
    return _without_none(converted)


def _user(initiated_by: str | None, user_id: str | None, actor_id: str | None) -> dict[str, Any]:
    """``user`` did it, acting as ``effective``; where nobody knows who did it, the session was that of ``target``."""
    if initiated_by is None:
        return {"target": {"id": user_id}}
    return {"id": user_id} if actor_id is None else {"id": actor_id, "effective": {"id": user_id}}


def ocsf(event: Event) -> dict[str, Any] | None:
    """Give the event of OCSF 1.8 (https://schema.ocsf.io/1.8.0/classes/authentication).

    None where nobody is proven: OCSF knows no authentication without a user.
    """
    user_id = event.get("user_id")
    if user_id is None:
        return None
    is_logoff = event["event"] != "session_used_after_logout"
    activity = 2 if is_logoff else 99  # Logoff, Other
    status = _outcome(event)
    converted = {
        "category_uid": 3,
        "category_name": "Identity & Access Management",
        "class_uid": 3002,
        "class_name": "Authentication",
        "activity_id": activity,
        "activity_name": "Logoff" if is_logoff else event["event"],
        "type_uid": 300200 + activity,
        "severity_id": 1,  # Informational
        "status_id": _STATUS_IDS[status],
        "status": status.capitalize(),
        "status_detail": event.get("reason") or event.get("cause"),
        "time": _microseconds(_happened_at(event)) // 1000,
        "metadata": {
            "version": "1.8.0",
            "uid": event["event_id"],
            "event_code": event["event"],
            "logged_time": _microseconds(event["timestamp"]) // 1000,
            "original_time": _happened_at(event),
            "product": {"name": "clerk-logout", "version": event.get("service_version")},
        },
        "user": {"uid": user_id, "org": {"uid": event.get("org_id")}},
        "actor": {"user": {"uid": event.get("initiated_by") and (event.get("actor_id") or user_id)}},
        "session": {"uid": event.get("session_id")},
        "service": {"name": "Clerk"},  # whose session it is
        "http_request": {"uid": event.get("request_id"), "user_agent": event.get("user_agent")},
        "unmapped": _rest(event, *_TAKEN, "session_id"),
    }
    return _without_none(converted)


def otel(event: Event) -> dict[str, Any]:
    """Give a log record, with its resource and scope, as one ``LogsData`` in OTLP's JSON.

    That is what the Collector's ``otlpjsonfile`` receiver reads, one a line:
    https://opentelemetry.io/docs/specs/otel/protocol/file-exporter.
    """
    told = _rest(event, "event", "timestamp", "ended_at", "trace_id", "service", "service_version")
    service = {"service.name": "clerk-logout", "service.version": event.get("service_version")}
    record = {
        "timeUnixNano": f"{_microseconds(_happened_at(event))}000",
        "observedTimeUnixNano": f"{_microseconds(event['timestamp'])}000",
        "severityNumber": 9,
        "severityText": "INFO",
        "eventName": f"clerk_logout.{event['event']}",
        "traceId": event.get("trace_id"),
        "attributes": [_attribute(_OTEL_NAMES.get(key, f"clerk_logout.{key}"), value) for key, value in told.items()],
    }
    resource = {"attributes": [_attribute(key, value) for key, value in _without_none(service).items()]}
    scope_logs = {"scope": {"name": "clerk-logout"}, "logRecords": [_without_none(record)]}
    return {"resourceLogs": [{"resource": resource, "scopeLogs": [scope_logs]}]}


def _attribute(key: str, value: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Name a value by its type; 64-bit integers are text in OTLP's JSON, as the times are."""
    if isinstance(value, bool):
        return {"key": key, "value": {"boolValue": value}}
    return {"key": key, "value": {"intValue" if isinstance(value, int) else "stringValue": str(value)}}


def _microseconds(moment: str) -> int:
    """Give microseconds since 1970 of an RFC 3339 time, exactly."""
    return (datetime.fromisoformat(moment) - _EPOCH) // timedelta(microseconds=1)


def _happened_at(event: Event) -> str:
    """Give the time of what the event tells of: of a session that has ended Clerk's, otherwise that of the line."""
    moment: str = event.get("ended_at") or event["timestamp"]
    return moment


def _outcome(event: Event) -> str:
    """Say ``success``, ``failure`` or ``unknown``: a call is a wish; that the session ended, Clerk says."""
    match event["event"]:
        case "session_ended":
            return "success"
        case "user_logout_everywhere":
            return "failure" if event.get("failed_sessions") else "success"
        case "session_used_after_logout":
            return "failure"  # it was refused
    return "failure" if event.get("auth") == "rejected" else "unknown"


def _rest(event: Event, *taken: str) -> dict[str, Any]:
    """Give what is known of the event beside the keys that a standard has taken, so that nothing gets lost."""
    return {key: value for key, value in event.items() if key not in taken and value is not None}


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    """Give what is known, in objects within objects too; one that holds nothing goes."""
    known = {key: _without_none(value) if isinstance(value, dict) else value for key, value in values.items()}
    return {key: value for key, value in known.items() if value not in (None, {})}

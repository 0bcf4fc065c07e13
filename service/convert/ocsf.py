"""OCSF 1.8, the class Authentication (3002): https://schema.ocsf.io/1.8.0/classes/authentication."""

from typing import Any

from service.convert.event import Event, happened_at, microseconds, outcome, rest, without_none

_LOGOFF, _OTHER = 2, 99
_STATUS_IDS = {"unknown": 0, "success": 1, "failure": 2}
_INFORMATIONAL = 1


def ocsf(event: Event) -> dict[str, Any] | None:
    """Give the event; None where nobody is proven: OCSF knows no authentication without a user."""
    user_id = event.get("user_id")
    if user_id is None:
        return None
    is_logoff = event["event"] != "session_used_after_logout"
    activity = _LOGOFF if is_logoff else _OTHER
    status = outcome(event)
    converted = {
        "category_uid": 3,
        "category_name": "Identity & Access Management",
        "class_uid": 3002,
        "class_name": "Authentication",
        "activity_id": activity,
        "activity_name": "Logoff" if is_logoff else event["event"],
        "type_uid": 300200 + activity,
        "severity_id": _INFORMATIONAL,
        "status_id": _STATUS_IDS[status],
        "status": status.capitalize(),
        "status_detail": event.get("reason") or event.get("cause"),
        "time": microseconds(happened_at(event)) // 1000,
        "metadata": {
            "version": "1.8.0",
            "uid": event["event_id"],
            "event_code": event["event"],
            "logged_time": microseconds(event["timestamp"]) // 1000,
            "original_time": happened_at(event),
            "product": {"name": "clerk-logout", "version": event.get("service_version")},
        },
        "user": {"uid": user_id, "org": {"uid": event.get("org_id")}},
        "actor": {"user": {"uid": _actor(event)}},
        "session": {"uid": event.get("session_id")},
        "service": {"name": "Clerk"},  # whose session it is
        "http_request": {"uid": event.get("request_id"), "user_agent": event.get("user_agent")},
        "unmapped": rest(
            event,
            *("event", "event_id", "timestamp", "ended_at", "reason", "cause", "user_id", "org_id"),
            *("session_id", "request_id", "user_agent", "service", "service_version"),
        ),
    }
    return without_none(converted)


def _actor(event: Event) -> str | None:
    """Who did it: the user, or whoever acted as the user; None where nobody knows."""
    if event.get("initiated_by") is None:
        return None
    found: str | None = event.get("actor_id") or event["user_id"]
    return found

"""The Elastic Common Schema, version 9.4: https://www.elastic.co/docs/reference/ecs."""

from typing import Any

from service.convert.event import Event, happened_at, outcome, rest, without_none

_ENDS = ("session_ended", "user_logout_everywhere")
"""The events that say that a session has ended; the others say that somebody wanted it, or used one."""


def ecs(event: Event) -> dict[str, Any]:
    """Give the document. What ECS has no field for is in ``clerk_logout``."""
    user_id, actor_id = event.get("user_id"), event.get("actor_id")
    converted = {
        "@timestamp": happened_at(event),
        "ecs": {"version": "9.4.0"},
        "event": {
            "id": event["event_id"],
            "kind": "event",
            "category": ["authentication", "session"],
            "type": ["end" if event["event"] in _ENDS else "info"],
            "action": event["event"],
            "outcome": outcome(event),
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
        "clerk_logout": rest(
            event,
            *("event", "event_id", "timestamp", "ended_at", "reason", "cause", "user_id", "org_id"),
            *("request_id", "trace_id", "user_agent", "window_start", "window_end", "service", "service_version"),
        ),
    }
    return without_none(converted)


def _user(initiated_by: str | None, user_id: str | None, actor_id: str | None) -> dict[str, Any]:
    """``user`` did it, acting as ``effective``; where nobody knows who did it, the session was that of ``target``."""
    if initiated_by is None:
        return {"target": {"id": user_id}}
    return {"id": user_id} if actor_id is None else {"id": actor_id, "effective": {"id": user_id}}

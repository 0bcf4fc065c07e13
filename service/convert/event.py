"""What the standards ask of an event, whichever it is."""

import re
from datetime import datetime, timedelta
from typing import Any

import orjson

Event = dict[str, Any]

_has_our_form = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z").fullmatch
_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00Z")


def read_event(line: bytes) -> Event | None:
    """Parse a line; None where it is none: torn, or without ``event``, ``event_id`` or a ``timestamp`` in our form."""
    try:
        event: Event = orjson.loads(line)
        is_event = isinstance(event["event"], str) and event["event_id"] and _is_time(event["timestamp"])
    except (ValueError, TypeError, LookupError):
        return None
    if not _is_time(event.get("ended_at")):
        event.pop("ended_at", None)
    return event if is_event else None


def _is_time(value: object) -> bool:
    if not isinstance(value, str) or not _has_our_form(value):
        return False
    try:
        microseconds(value)
    except ValueError:
        return False
    return True


def microseconds(moment: str) -> int:
    """Give microseconds since 1970 of an RFC 3339 time, exactly."""
    return (datetime.fromisoformat(moment) - _EPOCH) // timedelta(microseconds=1)


def happened_at(event: Event) -> str:
    """Give the time of what the event tells of: of a session that has ended Clerk's, otherwise that of the line."""
    moment: str = event.get("ended_at") or event["timestamp"]
    return moment


def outcome(event: Event) -> str:
    """Say ``success``, ``failure`` or ``unknown``: a call is a wish; that the session ended, Clerk says."""
    match event["event"]:
        case "session_ended":
            return "success"
        case "user_logout_everywhere":
            return "failure" if event.get("failed_sessions") else "success"
        case "session_used_after_logout":
            return "failure"  # it was refused
    return "failure" if event.get("auth") == "rejected" else "unknown"


def rest(event: Event, *taken: str) -> dict[str, Any]:
    """Give what is known of the event beside the keys that a standard has taken, so that nothing gets lost."""
    return {key: value for key, value in event.items() if key not in taken and value is not None}


def without_none(values: dict[str, Any]) -> dict[str, Any]:
    """Give what is known, in objects within objects too; one that holds nothing goes."""
    known = {key: without_none(value) if isinstance(value, dict) else value for key, value in values.items()}
    return {key: value for key, value in known.items() if value not in (None, {})}

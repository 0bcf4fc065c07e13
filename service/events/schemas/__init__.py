"""The JSON Schemas of the events: draft 2020-12, only keywords that draft-07 knows too.

What all events have in common stands once, in ``envelope.json``. An event's own file is a merge patch to that
(RFC 7396): what it says goes, and null takes away. Its further keys come before the service's.
"""

from functools import cache
from importlib.resources import files
from typing import Any

import orjson

EVENTS = (
    "session_ended",
    "session_used_after_logout",
    "user_logout",
    "user_logout_everywhere",
    "user_logout_suppressed",
)
OPTIONAL = ("client_ip", "user_agent")
LAST = ("service", "service_version")


@cache
def schemas() -> dict[str, dict[str, Any]]:
    """Give every schema, complete in itself, by the name of its event."""
    return {name: _schema(name) for name in EVENTS}


def _schema(name: str) -> dict[str, Any]:
    schema = _merge_patch(_read("envelope"), _read(name))
    properties = schema["properties"]
    properties["event"] = {"const": name}
    for key in LAST:
        properties[key] = properties.pop(key)
    schema["$id"], schema["title"] = f"urn:clerk-logout:event:{name}:1", name
    schema["required"] = [key for key in properties if key not in OPTIONAL]
    return schema


def _read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(files(__name__).joinpath(f"{name}.json").read_bytes())
    return found


def _merge_patch(target: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    merged = dict(target)
    for key, value in patch.items():
        if value is None:
            del merged[key]
        else:
            merged[key] = _merge_patch(merged.get(key, {}), value) if isinstance(value, dict) else value
    return merged

"""The JSON Schemas of the events, and the AsyncAPI document made of them.

They are of draft 2020-12, with only keywords that draft-07 knows too.

What all events have in common stands once, in ``envelope.json``. An event's own file is a merge patch to that
(RFC 7396): what it says goes, and null takes away. Its further keys come before the service's.
"""

from functools import cache
from importlib.resources import files
from typing import Any

import orjson

from service import __version__

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


def asyncapi() -> dict[str, Any]:
    """Give the events as an AsyncAPI 3 document: one channel, and each event a message in it."""
    found = schemas()
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "clerk-logout events",
            "version": __version__,
            "description": "One JSON object for each event, at least once; event_id is the same in every copy. "
            "Later versions may add keys and values of enumerations.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "channels": {
            "events": {
                "address": "clerk-logout",
                "description": "The Kafka topic, where the event log is shipped to Kafka: a line is a message.",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in found},
            }
        },
        "operations": {"record": {"action": "send", "channel": {"$ref": "#/channels/events"}}},
        "components": {"messages": {name: _message(name, schema) for name, schema in found.items()}},
    }


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


def _message(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    # AsyncAPI's schemas are those of draft-07, so they name no other draft.
    payload = {key: value for key, value in schema.items() if key != "$schema"}
    return {"name": name, "summary": schema["description"].partition(". ")[0] + ".", "payload": payload}

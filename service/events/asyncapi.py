"""The events as an AsyncAPI 3 document, made from the JSON Schemas."""

from typing import Any

from service import __version__
from service.events.schemas import schemas


def asyncapi() -> dict[str, Any]:
    """Give the document: one channel, and each event a message in it."""
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


def _message(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    # AsyncAPI's schemas are those of draft-07, so they name no other draft.
    payload = {key: value for key, value in schema.items() if key != "$schema"}
    return {"name": name, "summary": schema["description"].partition(". ")[0] + ".", "payload": payload}

"""The AsyncAPI document: true to its standard, and to the schemas."""

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from click.testing import CliRunner

from service import __version__
from service.cli import main
from service.events.schemas import asyncapi, schemas
from tests.events.test_schemas import EVENTS, EVERYTHING, emitted

DOCUMENT = asyncapi()
STANDARD = json.loads(Path("tests/standards/asyncapi-3.0.0.json").read_text("utf-8"))


def at(reference: str) -> Any:
    found: Any = DOCUMENT
    for name in reference.removeprefix("#/").split("/"):
        found = found[name]
    return found


def messages() -> dict[str, dict[str, Any]]:
    """The channel's messages, as a reader of the document finds them."""
    (operation,) = DOCUMENT["operations"].values()
    channel = at(operation["channel"]["$ref"])
    return {name: at(message["$ref"]) for name, message in channel["messages"].items()}


def test_it_holds_to_asyncapi_3() -> None:
    jsonschema_rs.Draft7Validator(STANDARD).validate(DOCUMENT)
    assert DOCUMENT["info"]["version"] == __version__


def test_the_standard_notices_what_is_wrong() -> None:
    assert not jsonschema_rs.Draft7Validator(STANDARD).is_valid(
        DOCUMENT | {"operations": {"record": {"action": "emit"}}}
    )


def test_every_event_is_a_message() -> None:
    assert list(messages()) == list(schemas())


@pytest.mark.parametrize("name", EVENTS)
def test_a_message_takes_its_events_and_no_others(name: str) -> None:
    message = messages()[name]
    validator = jsonschema_rs.Draft7Validator(message["payload"], validate_formats=True)
    assert [other for other in EVENTS if validator.is_valid(emitted(other, EVERYTHING))] == [name]
    assert message["name"] == name
    assert len(message["summary"]) > len("The.")


def test_the_command_prints_it() -> None:
    assert json.loads(CliRunner().invoke(main, ["asyncapi"]).output) == DOCUMENT

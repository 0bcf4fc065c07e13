"""ECS documents, held to the fields that ECS publishes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.convert.standards import ecs
from tests.convert.examples import EXAMPLES

FIELDS = json.loads(Path("tests/standards/ecs-9.4.0.json").read_text("utf-8"))
OWN = "clerk_logout"


def flat(values: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Each field by its full name."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{before}{key}.")
        else:
            yield before + key, value


def wrong(name: str, value: Any) -> Iterator[str]:
    """What ECS would not have in a field."""
    if name not in FIELDS:
        yield "unknown"
        return
    field = FIELDS[name]
    if isinstance(value, list) != (field["normalize"] == ["array"]):
        yield "list"
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(one, str) for one in values):
        yield "type"
    elif "allowed_values" in field and not set(values) <= {one["name"] for one in field["allowed_values"]}:
        yield "value"


def mistakes(document: dict[str, Any]) -> Iterator[str]:
    """What ECS would not have in a document."""
    fields = dict(flat({key: value for key, value in document.items() if key != OWN}))
    for name, value in fields.items():
        yield from (f"{name}: {what}" for what in wrong(name, value))
    yield from (f"{name}: missing" for name, field in FIELDS.items() if field.get("required") and name not in fields)
    for category in FIELDS["event.category"]["allowed_values"]:
        if category["name"] in document["event"]["category"]:
            expected = category["expected_event_types"]
            yield from (f"{category['name']}: {one}" for one in document["event"]["type"] if one not in expected)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_document_holds_to_ecs(name: str) -> None:
    assert list(mistakes(ecs(EXAMPLES[name]))) == []


def test_no_key_is_lost() -> None:
    for event in EXAMPLES.values():
        said = str(ecs(event))
        assert [key for key, value in event.items() if value is not None and str(value) not in said] == []

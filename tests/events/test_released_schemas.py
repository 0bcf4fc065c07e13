"""What a release promised stands: ``tests/released`` keeps its schemas, and later ones change them compatibly."""

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from service.events.schemas import schemas
from tests.events.test_schemas import ABSENT, EVENTS, EVERYTHING, NO_TOKEN, VERIFIED, emitted

Schema = dict[str, Any]

RELEASED: dict[str, dict[str, Schema]] = {
    path.stem: json.loads(path.read_text("utf-8")) for path in sorted(Path("tests/released").glob("*.json"))
}
EACH = [(release, name) for release, found in RELEASED.items() for name in found]
NARROWED_BY = {"maxLength": int.__le__, "minLength": int.__ge__, "minimum": int.__ge__, "maximum": int.__le__}
EQUAL = ("const", "format", "pattern")


def breaking(old: Schema, new: Schema) -> Iterator[str]:
    """What would break somebody who reads by the old schema. docs/events.md has the rules."""
    if old["$id"] != new["$id"]:
        yield "$id"
    yield from (f"{key}: not always there" for key in old["required"] if key not in new["required"])
    for key, said in old["properties"].items():
        if key not in new["properties"]:
            yield f"{key}: gone"
        else:
            yield from (f"{key}: {what}" for what in _widened(said, new["properties"][key]))


def _widened(old: Schema, new: Schema) -> Iterator[str]:
    """What a value may be now and could not be before; an enumeration may gain values."""
    if not _kinds(new) <= _kinds(old):
        yield "type"
    yield from (keyword for keyword in EQUAL if keyword in old and old[keyword] != new.get(keyword))
    for keyword, is_narrower in NARROWED_BY.items():
        if keyword in old and not (keyword in new and is_narrower(new[keyword], old[keyword])):
            yield keyword
    if "enum" in old and not set(old["enum"]) <= (set(new["enum"]) if "enum" in new else set()):
        yield "enum"


def _kinds(schema: Schema) -> set[str]:
    """The types that a value may have."""
    if "type" in schema:
        return {schema["type"]} if isinstance(schema["type"], str) else {*schema["type"]}
    values = schema.get("enum", [schema.get("const")])
    return {"null" if value is None else "integer" if isinstance(value, int) else "string" for value in values}


def test_the_schemas_of_every_release_are_kept() -> None:
    assert list(RELEASED) == sorted(
        re.findall(r"^## \[(\d\S*)\]", Path("CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    )


@pytest.mark.parametrize(("release", "name"), EACH)
def test_a_released_schema_is_changed_compatibly(release: str, name: str) -> None:
    assert list(breaking(RELEASED[release][name], schemas()[name])) == []


@pytest.mark.parametrize("values", [ABSENT | NO_TOKEN, VERIFIED, EVERYTHING], ids=["absent", "verified", "everything"])
@pytest.mark.parametrize(("release", "name"), EACH)
def test_a_line_of_today_holds_to_the_released_schema(release: str, name: str, values: dict[str, Any]) -> None:
    if name in EVENTS and (name == "user_logout" or "user_id" in values):
        jsonschema_rs.Draft202012Validator(RELEASED[release][name]).validate(emitted(name, values))


@pytest.mark.parametrize(
    ("key", "change", "what"),
    [
        ("request_id", {"type": ["string", "null"]}, "type"),
        ("schema_version", {"const": 2}, "const"),
        ("origin", {"maxLength": 257}, "maxLength"),
        ("timestamp", {"format": None}, "format"),
        ("auth", {"enum": ["verified"]}, "enum"),
    ],
)
def test_an_incompatible_change_is_noticed(key: str, change: Schema, what: str) -> None:
    new = copy.deepcopy(schemas()["user_logout"])
    new["properties"][key] |= change
    assert list(breaking(schemas()["user_logout"], new)) == [f"{key}: {what}"]


def test_a_key_that_goes_is_noticed() -> None:
    new = copy.deepcopy(schemas()["user_logout"])
    del new["properties"]["origin"]
    new["required"].remove("origin")
    assert list(breaking(schemas()["user_logout"], new)) == ["origin: not always there", "origin: gone"]

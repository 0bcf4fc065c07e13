"""The OpenAPI document: true to its standard, and about these paths. tests/test_conformance.py holds answers to it."""

import json
from typing import Any

import jsonschema_rs
import schemathesis
from click.testing import CliRunner

from service import __version__
from service.app import ROUTES
from service.clerk.verdict import Reason
from service.cli import main
from service.endpoints.documents import document
from tests.support.api_document import operations, parts, validator

DOCUMENT = document()
REFERENCES = sorted({part["$ref"] for _, part in parts() if isinstance(part, dict) and "$ref" in part})
SCHEMAS = [
    pointer
    for pointer, _ in parts()
    if pointer.endswith("/schema") or pointer.split("/")[1:-1] == ["components", "schemas"]
]


def at(pointer: str) -> Any:
    return dict(parts())[pointer]


def test_the_command_line_prints_it() -> None:
    """Of this version, and of no server: where the service runs, only its operator knows."""
    printed = json.loads(CliRunner().invoke(main, ["openapi"]).output)
    assert printed == DOCUMENT
    assert printed["info"]["version"] == __version__
    assert "servers" not in printed


def test_it_describes_exactly_what_is_served() -> None:
    # Starlette answers HEAD wherever it answers GET (RFC 9110, 9.1); the document says so once, for all paths.
    served = {(method, route.path) for route in ROUTES for method in route.methods or () if method != "HEAD"}
    assert set(operations()) == served


def test_it_is_valid_openapi_3_1_and_so_is_each_schema() -> None:
    schemathesis.openapi.from_dict(DOCUMENT).validate()
    for pointer in SCHEMAS:
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema"} | at(pointer))


def test_every_component_is_referred_to() -> None:
    defined = {
        f"#/components/{kind}/{name}"
        for kind in ("parameters", "headers", "responses", "schemas")
        for name in DOCUMENT["components"][kind]
    }
    assert defined == set(REFERENCES)
    asked_for = {name for one in operations().values() for way in one["security"] for name in way}
    assert asked_for == set(DOCUMENT["components"]["securitySchemes"])


def test_each_example_holds_to_the_schema_beside_it() -> None:
    pointers = [pointer for pointer, _ in parts() if pointer.endswith(("/example", "/examples"))]
    assert pointers
    for pointer in pointers:
        beside, found = at(pointer.rpartition("/")[0]), at(pointer)
        if pointer.endswith("/example"):
            found = [found]
        elif isinstance(found, dict):
            found = [example["value"] for example in found.values()]
        for example in found:
            validator(beside.get("schema", beside)).validate(example)


def test_each_operation_is_named_described_and_says_who_may_call() -> None:
    for operation in operations().values():
        assert {"operationId", "summary", "description", "tags", "security", "responses"} <= set(operation)
        assert set(operation["tags"]) <= {tag["name"] for tag in DOCUMENT["tags"]}
    names = [operation["operationId"] for operation in operations().values()]
    assert len(set(names)) == len(names)


def test_it_lists_every_reason_why_a_token_is_not_taken() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    refused = schemas["TokenRefused"]["properties"]["reason"]["enum"]
    undecided = schemas["TokenNotDecided"]["properties"]["reason"]["enum"]
    assert sorted([*refused, *undecided]) == sorted(
        [*Reason, "session-pending", "session-revoked", "revocations-unavailable"]
    )

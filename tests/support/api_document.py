"""The OpenAPI document, taken apart for the tests that hold it to its own rules and the service to it."""

from collections.abc import Iterator
from typing import Any

import jsonschema_rs

from service.endpoints.documents import document


def operations() -> dict[tuple[str, str], dict[str, Any]]:
    """Every operation by its method and path."""
    return {
        (method.upper(), path): item[method]
        for path, item in document()["paths"].items()
        for method in item
        if method != "parameters"
    }


def parts(part: Any = None, pointer: str = "#") -> Iterator[tuple[str, Any]]:
    """Everything in the document with its JSON Pointer (RFC 6901), the document first."""
    part = document() if pointer == "#" else part
    yield pointer, part
    members = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    for name, member in members:
        escaped = str(name).replace("~", "~0").replace("/", "~1")
        yield from parts(member, f"{pointer}/{escaped}")


def validator(schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
    """What holds values to a schema of the document, whose references lead into it."""
    return jsonschema_rs.Draft202012Validator(
        {"allOf": [schema], "components": document()["components"]}, validate_formats=True
    )


def examples(method: str, path: str, status: int) -> list[Any]:
    """The bodies that the document shows for an answer."""
    answer = operations()[method, path]["responses"][str(status)]
    shown = dict(parts()).get(answer.get("$ref"), answer)["content"]["application/json"]
    return [shown["example"]] if "example" in shown else [named["value"] for named in shown["examples"].values()]

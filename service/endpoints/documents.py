"""``GET /``, ``GET /openapi.json`` and ``GET /v1/events/schema``: what this is, and what callers and consumers rely on.

The OpenAPI document is written by hand, in ``openapi.json`` beside this.
"""

from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service import __version__
from service.events.schemas import schemas


@cache
def document() -> dict[str, Any]:
    """Give the document, with what the file leaves out: our version, and the headers of every response."""
    found: dict[str, Any] = orjson.loads(files(__package__).joinpath("openapi.json").read_bytes())
    found["info"]["version"] = __version__
    names = ("X-Request-ID", "Cache-Control", "X-Content-Type-Options")  # what service.endpoints.asgi adds
    common = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
    for response in _responses(found):
        response["headers"] = common | response.get("headers", {})
    return found


def _responses(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every response that is described in its place; the others are references to one of these."""
    yield from found["components"]["responses"].values()
    for path in found["paths"].values():
        for method in path.keys() - {"parameters"}:
            yield from (response for response in path[method]["responses"].values() if "$ref" not in response)


async def index(_: Request) -> Response:
    """Answer what somebody who has only the address needs to go on."""
    found = document()
    operations = {
        f"{method.upper()} {path}": operation["summary"]
        for path, methods in found["paths"].items()
        for method, operation in methods.items()
        if method != "parameters"
    }
    documentation = {
        "openapi": "/openapi.json",
        "events": "/v1/events/schema",
        "guide": "README.md and docs/ in the source repository",
    }
    answer = {"name": found["info"]["title"], "version": __version__, "description": found["info"]["summary"]}
    return JSONResponse(answer | {"paths": operations, "documentation": documentation})


async def openapi(_: Request) -> Response:
    """Answer the document."""
    return JSONResponse(document())


async def event_schema(_: Request) -> Response:
    """Answer every event's JSON Schema by the name of the event."""
    return JSONResponse(schemas())

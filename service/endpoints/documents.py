"""What the service says about itself: what it is, what callers and consumers rely on, and how it is doing.

None of these paths asks anybody, waits for anything or writes an event. The OpenAPI document is written by hand, in
``openapi.json`` beside this.
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
    responses = [*found["components"]["responses"].values()]
    for _, operation in _operations(found):
        responses += [response for response in operation["responses"].values() if "$ref" not in response]
    for response in responses:
        response["headers"] = common | response.get("headers", {})
    return found


def _operations(found: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give each operation after its method and path."""
    for path, methods in found["paths"].items():
        yield from ((f"{name.upper()} {path}", of) for name, of in methods.items() if name != "parameters")


async def index(_: Request) -> Response:
    """Answer what somebody who has only the address needs to go on."""
    info = document()["info"]
    return JSONResponse(
        {
            "name": info["title"],
            "version": __version__,
            "description": info["summary"],
            "paths": {name: operation["summary"] for name, operation in _operations(document())},
            "documentation": {
                "openapi": "/openapi.json",
                "events": "/v1/events/schema",
                "guide": "README.md and docs/ in the source repository",
            },
        }
    )


async def openapi(_: Request) -> Response:
    """Answer the document."""
    return JSONResponse(document())


async def event_schema(_: Request) -> Response:
    """Answer every event's JSON Schema by the name of the event."""
    return JSONResponse(schemas())


async def healthz(_: Request) -> Response:
    """Answer that the process is alive."""
    return JSONResponse({"status": "ok"})


async def readyz(request: Request) -> Response:
    """Answer of each part ``ok`` or what is wrong with it: 200 when logouts can be verified and recorded, else 503.

    The revocation list changes no status: what is down for all replicas would take all of them out at once, and with
    them the logouts that work without it.
    """
    resources = request.scope["state"]["resources"]
    ready, parts = resources.is_ready, {name: problem or "ok" for name, problem in resources.problems().items()}
    return JSONResponse({"status": "ready" if ready else "not ready", **parts}, 200 if ready else 503)


async def metrics(request: Request) -> Response:
    """Answer as Prometheus text or OpenMetrics, by what the caller accepts."""
    text, content_type = request.scope["state"]["resources"].metrics.text(request.headers.get("accept", ""))
    return Response(text, headers={"Content-Type": content_type})

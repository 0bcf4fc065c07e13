"""``GET /v1/events/schema``: the JSON Schemas of the event lines."""

from starlette.requests import Request
from starlette.responses import Response

from service.endpoints.responses import JSONResponse
from service.events.schemas import schemas


async def event_schema(_: Request) -> Response:
    """Answer every schema by the name of its event."""
    return JSONResponse(schemas())

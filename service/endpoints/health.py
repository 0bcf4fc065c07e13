"""``GET /healthz``: the process is alive. Asks nothing of anything else and writes no event."""

from starlette.requests import Request
from starlette.responses import Response

from service.endpoints.responses import JSONResponse


async def healthz(_: Request) -> Response:
    """Answer that the event loop turns."""
    return JSONResponse({"status": "ok"})

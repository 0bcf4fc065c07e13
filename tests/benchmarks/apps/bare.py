"""A Starlette application with one route, which nobody guards."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


async def orders(_: Request) -> JSONResponse:
    """Answer with a little JSON."""
    return JSONResponse({"orders": [1, 2, 3]})


app = Starlette(routes=[Route("/orders", orders)])

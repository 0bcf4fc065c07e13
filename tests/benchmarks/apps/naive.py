"""Starlette, Clerk's SDK and structlog."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tests.benchmarks.apps.sdk import log_out


async def end_session(request: Request) -> JSONResponse:
    """Answer 200."""
    return JSONResponse(log_out(request))


app = Starlette(routes=[Route("/v1/auth/session", end_session, methods=["DELETE"])])

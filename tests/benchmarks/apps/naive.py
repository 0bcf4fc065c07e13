"""Starlette, Clerk's SDK and structlog, as their documentation shows them."""

import os

from clerk_backend_api.security import authenticate_request
from clerk_backend_api.security.types import AuthenticateRequestOptions
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tests.benchmarks.apps.json_log import open_log

options = AuthenticateRequestOptions(
    jwt_key=os.environ["CLERK_JWT_KEY"],
    authorized_parties=os.environ["CLERK_AUTHORIZED_PARTIES"].split(","),
)
log = open_log()


async def end_session(request: Request) -> JSONResponse:
    """Verify the token, write one line, answer 200."""
    state = authenticate_request(request, options)
    if state.payload is not None:
        log.info("user_logout", auth="verified", user_id=state.payload["sub"], session_id=state.payload["sid"])
    else:
        log.info("user_logout", auth="rejected", reason=state.message)
    return JSONResponse({"success": True, "message": "Logged out successfully"})


app = Starlette(routes=[Route("/v1/auth/session", end_session, methods=["DELETE"])])

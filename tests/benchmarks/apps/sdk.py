"""Clerk's SDK and structlog, as their documentation shows them, into the file that ``EVENT_LOG`` names."""

import logging
import os
from pathlib import Path

import orjson
import structlog
from clerk_backend_api.security import authenticate_request
from clerk_backend_api.security.types import AuthenticateRequestOptions
from starlette.requests import Request

# "Performance" in structlog's documentation; each line is flushed to the file before the call returns.
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.JSONRenderer(serializer=orjson.dumps),
    ],
    wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    logger_factory=structlog.BytesLoggerFactory(file=Path(os.environ["EVENT_LOG"]).open("ab")),  # noqa: SIM115
    cache_logger_on_first_use=True,
)
log: structlog.typing.FilteringBoundLogger = structlog.get_logger()
options = AuthenticateRequestOptions(
    jwt_key=os.environ["CLERK_JWT_KEY"],
    authorized_parties=os.environ["CLERK_AUTHORIZED_PARTIES"].split(","),
)


def log_out(request: Request) -> dict[str, str | bool]:
    """Verify the token, write one line, give the answer."""
    state = authenticate_request(request, options)
    if state.payload is not None:
        log.info("user_logout", auth="verified", user_id=state.payload["sub"], session_id=state.payload["sid"])
    else:
        log.info("user_logout", auth="rejected", reason=state.message)
    return {"success": True, "message": "Logged out successfully"}

"""Clerk's Backend API, the calls that the service makes, and errors in Clerk's form.

See https://clerk.com/docs/reference/backend-api. Endpoints, here and in ``frontend_api``, find the instance and its
webhooks in ``app.state``.
"""

import hmac
import re
from collections.abc import Iterable

from starlette.background import BackgroundTasks
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.sandbox.instance import Instance, Session

ANY = ".*"
LIMITS = "500|[1-4][0-9]{2}|[1-9][0-9]?"
"""From 1 to 500."""


class ClerkError(HTTPException):
    """An error as Clerk answers it."""

    def __init__(self, status: int, code: str, message: str, parameter: str = "") -> None:
        super().__init__(status, message)
        meta = {"meta": {"param_name": parameter}} if parameter else {}
        self.error = {"message": message, "long_message": message, "code": code} | meta


async def error_response(_: Request, error: Exception) -> Response:
    """Answer with an error; Starlette's own, for an unknown path or method, in the same form."""
    assert isinstance(error, HTTPException)  # noqa: S101 - what it is registered for
    if not isinstance(error, ClerkError):
        error = ClerkError(error.status_code, "resource_not_found", error.detail)
    return JSONResponse({"errors": [error.error]}, status_code=error.status_code)


def parameters(request: Request, **patterns: str) -> dict[str, str]:
    """Return the query's parameters, or refuse one that has no pattern here or does not match it."""
    for name, value in request.query_params.items():
        if (pattern := patterns.get(name)) is None:
            raise ClerkError(422, "form_param_unknown", f"{name} is not a valid parameter for this request.", name)
        if not re.fullmatch(pattern, value):
            raise ClerkError(422, "form_param_format_invalid", f"{name} must match {pattern}", name)
    return dict(request.query_params)


def instance_of(request: Request) -> Instance:
    """Return the instance that a request is for."""
    instance: Instance = request.app.state.instance
    return instance


def find_session(request: Request, session_id: str) -> Session:
    """Return a session, or answer that there is none."""
    session = instance_of(request).session(session_id)
    if session is None:
        raise not_found()
    return session


def not_found() -> ClerkError:
    """Make the error for a session that does not exist, or not for this caller."""
    return ClerkError(404, "resource_not_found", "Session not found")


def end_sessions(request: Request, sessions: Iterable[Session], status: str) -> BackgroundTasks:
    """End those that are alive; the webhooks about that are sent when the response has been."""
    instance, webhooks = instance_of(request), request.app.state.webhooks
    sending = BackgroundTasks()
    for session in sessions:
        if instance.end(session, status):
            sending.add_task(webhooks.session_ended, session, request)
    return sending


def _authenticate(request: Request) -> None:
    shown = request.headers.get("authorization", "")
    if not hmac.compare_digest(shown.encode(), f"Bearer {instance_of(request).secret_key}".encode()):
        raise ClerkError(401, "clerk_key_invalid", "The provided Clerk Secret Key is invalid.")


async def _jwks(request: Request) -> Response:
    _authenticate(request)
    return JSONResponse(instance_of(request).jwks())


async def _list_sessions(request: Request) -> Response:
    _authenticate(request)
    query = parameters(request, user_id=ANY, limit=LIMITS, offset="[0-9]{1,9}")
    if not query.get("user_id"):
        raise ClerkError(422, "form_param_missing", "user_id must be included.", "user_id")
    limit, offset = int(query.get("limit", 10)), int(query.get("offset", 0))
    found = instance_of(request).sessions(user_id=query["user_id"])
    return JSONResponse([session.as_json() for session in found[offset : offset + limit]])


async def _get_session(request: Request) -> Response:
    _authenticate(request)
    return JSONResponse(find_session(request, request.path_params["session_id"]).as_json())


async def _end_session(request: Request) -> Response:
    """End a session as from Clerk's dashboard or another device, where nobody calls the logout endpoint."""
    session = find_session(request, request.path_params["session_id"])
    sending = end_sessions(request, [session], "revoked")
    return JSONResponse(session.as_json(), background=sending)


async def _revoke_session(request: Request) -> Response:
    _authenticate(request)
    return await _end_session(request)


ROUTES = (
    Route("/v1/jwks", _jwks),
    Route("/v1/sessions", _list_sessions),
    Route("/v1/sessions/{session_id}", _get_session),
    Route("/v1/sessions/{session_id}/revoke", _revoke_session, methods=["POST"]),
    Route("/sandbox/sessions/{session_id}/end", _end_session, methods=["POST"]),
)

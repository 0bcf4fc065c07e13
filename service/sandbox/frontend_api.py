"""The part of Clerk's Frontend API that the page needs; real clerk-js asks for more.

Below ``/sandbox`` stands what takes the place of Clerk's own pages: signing in, and ending a session in the dashboard.
"""

import json

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from service.sandbox.backend_api import ANY, ClerkError, end_sessions, find_session, instance_of, not_found, parameters
from service.sandbox.instance import TOKEN_LIFETIME, Session

COOKIE = "__client"
USER = {"user_id": ANY, "org_id": ANY, "actor_id": ANY}
"""The parameters of signing in."""


async def _client(request: Request) -> Response:
    return JSONResponse(_client_of(request, request.cookies.get(COOKIE)))


async def _token(request: Request) -> Response:
    session = find_session(request, request.path_params["session_id"])
    if session.client_id != request.cookies.get(COOKIE) or session.status != "active":
        raise not_found()
    return JSONResponse({"object": "token", "jwt": instance_of(request).session_token(session, _origin(request))})


async def _sign_out(request: Request) -> Response:
    """End the browser's sessions, as ``clerk.signOut()`` does."""
    if request.method == "POST" and request.query_params.get("_method") != "DELETE":
        raise ClerkError(405, "method_not_allowed", "Method Not Allowed")
    client_id = request.cookies.get(COOKIE)
    sending = end_sessions(request, _active(request, client_id), "removed")
    return JSONResponse(_client_of(request, client_id), background=sending)


async def _sign_in(request: Request) -> Response:
    session = _new_session(request, parameters(request, **USER), request.cookies.get(COOKIE))
    response = JSONResponse(_client_of(request, session.client_id))
    response.set_cookie(COOKIE, session.client_id, httponly=True, samesite="lax")
    return response


async def _sign_in_elsewhere(request: Request) -> Response:
    """Sign in on a new device; answer the session's id as text."""
    return PlainTextResponse(_new_session(request, parameters(request, **USER)).id)


async def _any_token(request: Request) -> Response:
    """Answer a token as text: of the session ``session_id``, else of a new one on a new device.

    With ``expired=true`` it was issued an hour ago; that is the only one that a session which has ended still has.
    ``claims`` is a JSON object of claims to change, such as ``{"azp": null, "aud": "convex", "sts": "pending"}``.
    """
    of_new_one = "session_id" not in request.query_params
    query = parameters(request, expired="true|false", claims=ANY, **(USER if of_new_one else {"session_id": ANY}))
    expired = query.pop("expired", "false") == "true"
    try:
        changes = dict(json.loads(query.pop("claims", "{}")))
    except (ValueError, TypeError):
        text = "claims must be a JSON object"
        raise ClerkError(422, "form_param_format_invalid", "is invalid", text, "claims") from None
    session = _new_session(request, query) if of_new_one else find_session(request, query["session_id"])
    if session.status != "active" and not expired:
        raise not_found()
    age = 60 * TOKEN_LIFETIME if expired else 0
    return PlainTextResponse(instance_of(request).session_token(session, _origin(request), age=age, **changes))


async def _end(request: Request) -> Response:
    """End a session as from Clerk's dashboard or another device, where nobody calls the logout endpoint."""
    cause = parameters(request, cause="revoked|removed|ended").get("cause", "revoked")
    session = find_session(request, request.path_params["session_id"])
    sending = end_sessions(request, [session], cause)
    return JSONResponse(session.as_json(), background=sending)


async def _redeliver(request: Request) -> Response:
    """Send the newest webhook again, as Clerk does when an answer was lost; answer its id."""
    parameters(request)
    webhooks = request.app.state.webhooks
    if webhooks.newest is None:
        return JSONResponse({"redelivered": None})
    return JSONResponse({"redelivered": webhooks.newest[0]}, background=BackgroundTask(webhooks.send, *webhooks.newest))


def _new_session(request: Request, query: dict[str, str], client_id: str | None = None) -> Session:
    user = {"user_id": "user_2sandboxSandboxSandboxSand"} | query
    return instance_of(request).sign_in(**user, client_id=client_id)


def _active(request: Request, client_id: str | None) -> list[Session]:
    return [] if client_id is None else instance_of(request).sessions(client_id=client_id, status="active")


def _client_of(request: Request, client_id: str | None) -> dict[str, object]:
    sessions = [session.as_json() for session in _active(request, client_id)]
    return {"response": {"object": "client", "id": client_id, "sessions": sessions}}


def _origin(request: Request) -> str:
    """Return the page that asks; a command line has none and counts as the sandbox's own page."""
    return request.headers.get("origin") or f"{request.url.scheme}://{request.url.netloc}"


ROUTES = (
    Route("/v1/client", _client),
    Route("/v1/client/sessions", _sign_out, methods=["POST", "DELETE"]),
    Route("/v1/client/sessions/{session_id}/tokens", _token, methods=["POST"]),
    Route("/sandbox/sign-in", _sign_in, methods=["POST"]),
    Route("/sandbox/token", _any_token, methods=["POST"]),
    Route("/sandbox/sessions", _sign_in_elsewhere, methods=["POST"]),
    Route("/sandbox/sessions/{session_id}/end", _end, methods=["POST"]),
    Route("/sandbox/webhooks/redeliver", _redeliver, methods=["POST"]),
)

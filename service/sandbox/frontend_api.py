"""Clerk's Frontend API, as much of it as real clerk-js needs to sign in, refresh tokens, switch and sign out.

Any identifier signs in, and any password proves it. As in a development instance, ``__clerk_db_jwt`` in the query tells
one browser from another; the sandbox's own page is told by a cookie. Below ``/sandbox`` stands what takes the place of
Clerk's own pages.
"""

import json
from typing import Any
from urllib.parse import parse_qsl

from starlette.background import BackgroundTask, BackgroundTasks
from starlette.datastructures import URL
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from service.sandbox.backend_api import ANY, ClerkError, end_sessions, find_session, instance_of, not_found, parameters
from service.sandbox.instance import COOKIE_SUFFIX, TOKEN_LIFETIME, Session, new_id

COOKIE = "__client"
DEV_BROWSER = "__clerk_db_jwt"

ENVIRONMENT = {"organization_settings": {"enabled": True}}


async def _environment(_: Request) -> Response:
    return JSONResponse(ENVIRONMENT)


async def _dev_browser(_: Request) -> Response:
    token = new_id("dvb")
    return JSONResponse({"id": token, "token": token})


async def _handshake(request: Request) -> Response:
    """Send the browser back with the cookies that its session has, as a signed list (``clerkMiddleware`` sets them)."""
    instance, query = instance_of(request), request.query_params
    browser = query.get(DEV_BROWSER) or new_id("dvb")
    sessions = _active(request, browser)
    back = URL(query["redirect_url"])
    values = {DEV_BROWSER: browser, "__client_uat": "0", "__session": ""}
    if sessions:
        origin = f"{back.scheme}://{back.netloc}"
        values |= {
            "__client_uat": str(sessions[0].created_at // 1000),
            "__session": instance.session_token(sessions[0], origin),
        }
    cookies = [
        f"{name}={value}; Path=/; SameSite=Lax; Max-Age={315360000 if value else 0}"
        for plain, value in values.items()
        for name in (plain, f"{plain}_{COOKIE_SUFFIX}")
    ]
    target = back.include_query_params(__clerk_handshake=instance.sign({"handshake": cookies}))
    return RedirectResponse(str(target.include_query_params(**{DEV_BROWSER: browser})))


async def _client(request: Request) -> Response:
    return JSONResponse({"response": _client_of(request), "client": None})


async def _sign_in_with_clerk(request: Request) -> Response:
    """Complete at once, for any identifier: it becomes the user's id."""
    form = await _form(request)
    session = instance_of(request).sign_in(form["identifier"], client_id=_client_id(request))
    sign_in = {"object": "sign_in", "id": new_id("sia"), "status": "complete", "created_session_id": session.id}
    return _answer(request, sign_in | {"identifier": session.user_id})


async def _token(request: Request) -> Response:
    session = _own_session(request)
    return JSONResponse({"object": "token", "jwt": instance_of(request).session_token(session, _origin(request))})


async def _touch(request: Request) -> Response:
    session, form = _own_session(request), await _form(request)
    if "active_organization_id" in form:
        session.last_active_organization_id = form["active_organization_id"] or None
    return _answer(request, _session_of(request, session))


async def _verify(request: Request) -> Response:
    """Begin to prove who the user is, or with ``attempt_first_factor`` accept the password."""
    session = _own_session(request)
    complete = request.url.path.endswith("attempt_first_factor")
    if complete:
        instance_of(request).verified(session)
    verification = {
        "object": "session_verification",
        "id": new_id("sv"),
        "status": "complete" if complete else "needs_first_factor",
        "session": _session_of(request, session),
        "supported_first_factors": [{"strategy": "password"}],
    }
    return _answer(request, verification)


async def _sign_out(request: Request) -> Response:
    """End the browser's sessions, as ``clerk.signOut()`` does."""
    sending = end_sessions(request, _active(request, _client_id(request)), "removed")
    return _answer(request, _client_of(request), sending)


async def _sign_out_one(request: Request) -> Response:
    """End one session, as ``session.remove()`` and ``session.end()`` do."""
    session = _own_session(request)
    sending = end_sessions(request, [session], "removed" if request.url.path.endswith("remove") else "ended")
    return _answer(request, _session_of(request, session), sending)


async def _devices(request: Request) -> Response:
    """List the user's sessions on all devices, as ``<UserProfile>`` shows them."""
    mine = instance_of(request).sessions(user_id=_own_user(request), status="active")
    return JSONResponse([session.as_json() | {"latest_activity": {"id": session.id}} for session in mine])


async def _sign_out_of_device(request: Request) -> Response:
    session = find_session(request, request.path_params["session_id"])
    if session.user_id != _own_user(request):
        raise not_found()
    return _answer(request, session.as_json(), end_sessions(request, [session], "revoked"))


async def _sign_in(request: Request) -> Response:
    session = _new_session(request, parameters(request, user_id=ANY), request.cookies.get(COOKIE))
    response = JSONResponse({"response": _client_of(request, session.client_id)})
    response.set_cookie(COOKIE, session.client_id, httponly=True, samesite="lax")
    return response


async def _any_token(request: Request) -> Response:
    """Answer a token as text: of the session ``session_id``, else of a new one on a new device.

    With ``expired=true`` it was issued an hour ago; that is the only one that a session which has ended still has.
    ``claims`` is a JSON object of claims to change, such as ``{"azp": null, "aud": "convex", "sts": "pending"}``.
    """
    query = parameters(request, user_id=ANY, session_id=ANY, expired="true|false", claims=ANY)
    expired = query.get("expired") == "true"
    try:
        changes = dict(json.loads(query.get("claims", "{}")))
    except (ValueError, TypeError):
        raise ClerkError(422, "form_param_format_invalid", "claims must be a JSON object", "claims") from None
    session = find_session(request, query["session_id"]) if "session_id" in query else _new_session(request, query)
    if session.status != "active" and not expired:
        raise not_found()
    age = 60 * TOKEN_LIFETIME if expired else 0
    return PlainTextResponse(instance_of(request).session_token(session, _origin(request), age=age, **changes))


async def _redeliver(request: Request) -> Response:
    """Send the newest webhook again, as Clerk does when an answer was lost; answer its id."""
    webhooks = request.app.state.webhooks
    if webhooks.newest is None:
        return JSONResponse({"redelivered": None})
    return JSONResponse({"redelivered": webhooks.newest[0]}, background=BackgroundTask(webhooks.send, *webhooks.newest))


async def _form(request: Request) -> dict[str, str]:
    return dict(parse_qsl((await request.body()).decode(), keep_blank_values=True))


def _answer(request: Request, response: dict[str, Any], sending: BackgroundTasks | None = None) -> Response:
    """Answer with the browser's sessions beside what was asked for; clerk-js keeps them in step that way."""
    return JSONResponse({"response": response, "client": _client_of(request)}, background=sending)


def _new_session(request: Request, query: dict[str, str], client_id: str | None = None) -> Session:
    return instance_of(request).sign_in(query.get("user_id", "user_2sandboxSandboxSandboxSand"), client_id=client_id)


def _client_id(request: Request) -> str:
    return request.query_params.get(DEV_BROWSER) or request.cookies.get(COOKIE, "")


def _own_session(request: Request) -> Session:
    """Return the session that the path names, if it is one of the caller's browser and goes on."""
    session = find_session(request, request.path_params["session_id"])
    if session.client_id != _client_id(request):
        raise not_found()
    if session.status not in {"active", "pending"}:
        raise ClerkError(401, "signed_out", "You are signed out")
    return session


def _own_user(request: Request) -> str:
    """Return the user of the session that clerk-js names as the active one."""
    session = find_session(request, request.query_params.get("_clerk_session_id", ""))
    return session.user_id if session.client_id == _client_id(request) else ""


def _active(request: Request, client_id: str) -> list[Session]:
    return instance_of(request).sessions(client_id=client_id, status="active")


def _client_of(request: Request, client_id: str = "") -> dict[str, Any]:
    client_id = client_id or _client_id(request)
    sessions = [_session_of(request, session) for session in _active(request, client_id)]
    newest = sessions[0]["id"] if sessions else None
    return {"object": "client", "id": client_id or None, "sessions": sessions, "last_active_session_id": newest}


def _session_of(request: Request, session: Session) -> dict[str, Any]:
    """Return Clerk's Session object as the Frontend API has it: with its user and its newest token."""
    user = session.user()
    organization = {"object": "organization", "id": "org_sandbox", "name": "Sandbox", "slug": "sandbox"}
    membership = {"object": "organization_membership", "id": "orgmem_sandbox", "organization": organization}
    instance = instance_of(request)
    token = {"object": "token", "jwt": instance.session_token(session, _origin(request))}
    return session.as_json() | {
        "user": user | {"organization_memberships": [membership | {"role": "org:member", "permissions": []}]},
        "public_user_data": {"identifier": session.user_id, "user_id": session.user_id},
        "last_active_token": token,
        "factor_verification_age": instance.factor_age(session),
    }


def _origin(request: Request) -> str:
    """Return the page that asks; a command line has none and counts as the sandbox's own page."""
    return request.headers.get("origin") or f"{request.url.scheme}://{request.url.netloc}"


CORS = [
    Middleware(
        CORSMiddleware,
        allow_origin_regex=r"https?://(localhost|127\.0\.0\.1)(:\d+)?",
        allow_methods=["GET", "POST"],
        allow_headers=["*"],
        allow_credentials=True,
    )
]
"""Any page on this machine, and no other: the frontend that somebody develops beside the sandbox."""
_SESSION = "/v1/client/sessions/{session_id}"

ROUTES = (
    Route("/v1/environment", _environment, methods=["GET", "POST"], middleware=CORS),
    Route("/v1/dev_browser", _dev_browser, methods=["POST"], middleware=CORS),
    Route("/v1/client", _client, middleware=CORS),
    Route("/v1/client/handshake", _handshake),
    Route("/v1/client/sign_ins", _sign_in_with_clerk, methods=["POST"], middleware=CORS),
    Route("/v1/client/sessions", _sign_out, methods=["POST", "DELETE"], middleware=CORS),
    Route(f"{_SESSION}/tokens", _token, methods=["POST"], middleware=CORS),
    Route(f"{_SESSION}/touch", _touch, methods=["POST"], middleware=CORS),
    Route(f"{_SESSION}/remove", _sign_out_one, methods=["POST"], middleware=CORS),
    Route(f"{_SESSION}/end", _sign_out_one, methods=["POST"], middleware=CORS),
    Route(f"{_SESSION}/verify", _verify, methods=["POST"], middleware=CORS),
    Route(f"{_SESSION}/verify/attempt_first_factor", _verify, methods=["POST"], middleware=CORS),
    Route("/v1/me/sessions/active", _devices, middleware=CORS),
    Route("/v1/me/sessions/{session_id}/revoke", _sign_out_of_device, methods=["POST"], middleware=CORS),
    Route("/sandbox/sign-in", _sign_in, methods=["POST"]),
    Route("/sandbox/token", _any_token, methods=["POST"]),
    Route("/sandbox/webhooks/redeliver", _redeliver, methods=["POST"]),
)

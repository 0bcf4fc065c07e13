"""The stand-in as an ASGI app: Clerk's Backend API, what a page needs of its Frontend API, and the page itself."""

import hmac
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from service.sandbox.instance import STATUSES, TOKEN_LIFETIME, Instance, Session
from service.sandbox.session_ends import SessionEnds
from service.sandbox.webhooks import Deliver, Webhooks

ReadEvents = Callable[[int], tuple[list[str], int]]
"""Gives the event lines after a position, and the position after them."""

DEFAULT_LIMIT = 10
MAX_LIMIT = 500
MAX_DIGITS = 17


async def _to_nobody(_headers: Mapping[str, str], _body: bytes) -> bool:
    """Take every webhook."""
    return True


def create_sandbox(
    instance: Instance,
    *,
    service_url: str = "",
    read_events: ReadEvents = lambda position: ([], position),
    hosts: Sequence[str] = ("*",),
    deliver: Deliver = _to_nobody,
) -> Starlette:
    """Build the stand-in.

    Args:
        instance: its state.
        service_url: where the page finds the service.
        read_events: what the page shows.
        hosts: the Host headers that are answered, so that no other site's page gets a token by DNS rebinding.
        deliver: sends a webhook to the service.
    """
    webhooks = Webhooks(instance, deliver)
    ends = SessionEnds(instance, webhooks)
    backend = _BackendApi(instance, ends)
    frontend = _FrontendApi(instance, ends)
    page = files(__package__).joinpath("page.html").read_text("utf-8").replace("{{service_url}}", service_url)

    async def index(_: Request) -> Response:
        return HTMLResponse(page)

    async def events(request: Request) -> Response:
        lines, position = read_events(_integer(request, "after", 0, most=2**53))
        return JSONResponse({"lines": lines, "next": position})

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await webhooks.close()

    return Starlette(
        lifespan=lifespan,
        routes=[
            Route("/v1/jwks", backend.jwks),
            Route("/v1/sessions", backend.list_sessions),
            Route("/v1/sessions/{session_id}", backend.get_session),
            Route("/v1/sessions/{session_id}/revoke", backend.revoke_session, methods=["POST"]),
            Route("/v1/client", frontend.client),
            Route("/v1/client/sessions", frontend.sign_out, methods=["POST", "DELETE"]),
            Route("/v1/client/sessions/{session_id}/tokens", frontend.token, methods=["POST"]),
            Route("/sandbox/sign-in", frontend.sign_in, methods=["POST"]),
            Route("/sandbox/token", frontend.new_token, methods=["POST"]),
            Route("/sandbox/sessions", frontend.new_session, methods=["POST"]),
            Route("/sandbox/sessions/{session_id}/end", ends.end_one, methods=["POST"]),
            Route("/sandbox/webhooks/redeliver", ends.redeliver, methods=["POST"]),
            Route("/sandbox/events", events),
            Route("/", index),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)],
        exception_handlers={HTTPException: _no_such_path, _ClerkError: _clerk_error},
    )


class _ClerkError(Exception):
    """An error as Clerk answers it."""

    def __init__(self, status: int, code: str, message: str, long_message: str | None = None) -> None:
        self.status = status
        self.body = {"errors": [{"message": message, "long_message": long_message or message, "code": code}]}


class _BackendApi:
    """https://clerk.com/docs/reference/backend-api: the calls that the service makes."""

    def __init__(self, instance: Instance, ends: SessionEnds) -> None:
        self._instance = instance
        self._ends = ends

    def _authenticate(self, request: Request) -> None:
        shown = request.headers.get("authorization", "")
        if not hmac.compare_digest(shown.encode(), f"Bearer {self._instance.secret_key}".encode()):
            raise _ClerkError(401, "secret_key_invalid", "The provided Clerk Secret Key is invalid.")

    async def jwks(self, request: Request) -> Response:
        self._authenticate(request)
        return JSONResponse(self._instance.jwks())

    async def list_sessions(self, request: Request) -> Response:
        self._authenticate(request)
        query = request.query_params
        status = query.get("status")
        if status is not None and status not in STATUSES:
            raise _ClerkError(
                422, "form_param_value_invalid", "is invalid", f"status must be one of {', '.join(STATUSES)}"
            )
        limit = _integer(request, "limit", DEFAULT_LIMIT, least=1, most=MAX_LIMIT)
        offset = _integer(request, "offset", 0)
        found = self._instance.sessions(user_id=query.get("user_id"), client_id=query.get("client_id"), status=status)
        page = [session.as_json() for session in found[offset : offset + limit]]
        if query.get("paginated") == "true":
            return JSONResponse({"data": page, "total_count": len(found)})
        return JSONResponse(page)

    async def get_session(self, request: Request) -> Response:
        self._authenticate(request)
        session = self._instance.session(request.path_params["session_id"])
        if session is None:
            raise _not_found("Session")
        return JSONResponse(session.as_json())

    async def revoke_session(self, request: Request) -> Response:
        self._authenticate(request)
        session = self._instance.session(request.path_params["session_id"])
        if session is None:
            raise _not_found("Session")
        self._ends.end(session, "revoked", request)
        return JSONResponse(session.as_json())


class _FrontendApi:
    """What clerk-js would call, plus shortcuts below ``/sandbox`` that take the place of the sign-in form."""

    def __init__(self, instance: Instance, ends: SessionEnds) -> None:
        self._instance = instance
        self._ends = ends

    async def sign_in(self, request: Request) -> Response:
        session = self._new_session(request, request.cookies.get("__client"))
        response = JSONResponse(self._client(session.client_id))
        response.set_cookie("__client", session.client_id, httponly=True, samesite="lax")
        return response

    async def new_token(self, request: Request) -> Response:
        """Sign in on a new device and answer the session's token as text, for use in a command line.

        With ``expired=true`` it is one from an hour ago.
        """
        age = 60 * TOKEN_LIFETIME if request.query_params.get("expired") == "true" else 0
        session = self._new_session(request, None)
        return PlainTextResponse(self._instance.session_token(session, _origin(request), age=age))

    async def new_session(self, request: Request) -> Response:
        """Sign in on a new device and answer the session's id as text, likewise."""
        return PlainTextResponse(self._new_session(request, None).id)

    async def client(self, request: Request) -> Response:
        return JSONResponse(self._client(request.cookies.get("__client")))

    async def token(self, request: Request) -> Response:
        session = self._instance.session(request.path_params["session_id"])
        if session is None or session.client_id != request.cookies.get("__client") or session.status != "active":
            raise _not_found("Session")
        return JSONResponse({"object": "token", "jwt": self._instance.session_token(session, _origin(request))})

    async def sign_out(self, request: Request) -> Response:
        if request.method == "POST" and request.query_params.get("_method") != "DELETE":
            raise HTTPException(405)
        client_id = request.cookies.get("__client")
        for session in self._active(client_id):
            self._ends.end(session, "removed", request)
        return JSONResponse(self._client(client_id))

    def _new_session(self, request: Request, client_id: str | None) -> Session:
        query = request.query_params
        user_id = query.get("user_id") or "user_2sandboxSandboxSandboxSand"
        return self._instance.sign_in(
            user_id, client_id=client_id, org_id=query.get("org_id"), actor_id=query.get("actor_id")
        )

    def _active(self, client_id: str | None) -> list[Session]:
        return [] if client_id is None else self._instance.sessions(client_id=client_id, status="active")

    def _client(self, client_id: str | None) -> dict[str, object]:
        sessions = [session.as_json() for session in self._active(client_id)]
        return {"response": {"object": "client", "id": client_id, "sessions": sessions}}


def _origin(request: Request) -> str:
    """The page that asks; a command line has none, so it counts as the sandbox's own page."""
    return request.headers.get("origin") or f"{request.url.scheme}://{request.url.netloc}"


def _integer(request: Request, name: str, default: int, *, least: int = 0, most: int = 2**31 - 1) -> int:
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS and least <= int(text) <= most):
        raise _ClerkError(
            422, "form_param_format_invalid", "is invalid", f"{name} must be a number from {least} to {most}"
        )
    return int(text)


def _not_found(what: str) -> _ClerkError:
    return _ClerkError(404, "resource_not_found", "not found", f"{what} not found")


async def _clerk_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, _ClerkError)  # noqa: S101 - what it is registered for
    return JSONResponse(error.body, status_code=error.status)


async def _no_such_path(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - what it is registered for
    body = _ClerkError(error.status_code, "resource_not_found", error.detail).body
    return JSONResponse(body, status_code=error.status_code, headers=error.headers)

"""``SessionGuard``: no request reaches the application unless its session counts."""

from collections.abc import Collection
from functools import partial

from prometheus_client import CollectorRegistry
from starlette.authentication import AuthCredentials, UnauthenticatedUser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.events.request import read_head
from service.guard.opening import LazyCheck, open_session_check
from service.sessions.check import SessionCheck
from service.sessions.refusal import Refusal
from service.settings import ConfigurationError

POLICY_VIOLATION = 1008
"""Close code of a WebSocket (RFC 6455, section 7.4.1); before it is accepted, servers answer 403 instead."""

_PREFLIGHT_HEADERS = {b"origin", b"access-control-request-method"}


class SessionGuard:
    """Pure ASGI middleware for any Starlette or FastAPI application: ``app.add_middleware(SessionGuard)``.

    An admitted request finds a ``SessionUser`` in ``request.user``, and ``@requires("authenticated")`` holds for it.
    Any other gets 401, or 503 where it cannot be decided now, as JSON with a reason code; a WebSocket gets 403.

    Requests to the paths in ``public`` pass unchecked, with an unauthenticated user, and so do CORS preflights, which
    carry no credentials. Without ``check`` it reads the service's environment variables, and opens what it needs when
    the application starts, or with the first request where no ``lifespan`` reaches it, as in a mounted application.

    Args:
        app: what is protected.
        public: whole paths that anybody may ask for, exactly as in ``scope["path"]``: decoded, and from the server's
            root also in a mounted application.
        check: a check that somebody else opens and closes, such as ``open_session_check``.
        allow_pending: admits sessions with open tasks (``sts`` is ``pending``), as pages where those are done need it.
        registry: of prometheus-client, such as its ``REGISTRY``: shows the guard's numbers with the application's.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        public: Collection[str] = (),
        check: SessionCheck | None = None,
        allow_pending: bool = False,
        registry: CollectorRegistry | None = None,
    ) -> None:
        if isinstance(public, str):
            raise TypeError('public is a collection of paths, such as {"/healthz"}')
        self._app = app
        self._public = frozenset(public)
        self._allow_pending = allow_pending
        self._check = LazyCheck(check, partial(open_session_check, registry=registry))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan" and self._check.is_own:
            await self._lifespan(scope, receive, send)
            return
        if scope["type"] in {"http", "websocket"}:
            if scope["path"] in self._public or _is_preflight(scope):
                scope["user"], scope["auth"] = UnauthenticatedUser(), AuthCredentials()
            else:
                outcome = await (await self._check.get())(read_head(scope), allow_pending=self._allow_pending)
                if isinstance(outcome, Refusal):
                    await _refuse(outcome, scope, receive, send)
                    return
                # Of this request alone: the application may add scopes to it.
                scope["user"], scope["auth"] = outcome, AuthCredentials(["authenticated"])
        await self._app(scope, receive, send)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Open before the application starts, close when it has ended, but before the server is told so and exits."""
        try:
            await self._check.get()
        except ConfigurationError as error:
            await receive()  # lifespan.startup
            await send({"type": "lifespan.startup.failed", "message": f"clerk-logout: {error}"})
            raise

        async def close_before_the_end(message: Message) -> None:
            if message["type"] != "lifespan.startup.complete":
                await self._check.close()
            await send(message)

        try:
            await self._app(scope, receive, close_before_the_end)
        finally:
            await self._check.close()


async def _refuse(refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()  # websocket.connect
        await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": refusal.reason})
    else:
        await refusal.response()(scope, receive, send)


def _is_preflight(scope: Scope) -> bool:
    return scope.get("method") == "OPTIONS" and {name for name, _ in scope["headers"]} >= _PREFLIGHT_HEADERS

"""``SessionGuard``, past which only requests come whose session counts, and ``SessionBackend``, for parts."""

import asyncio
import logging
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from prometheus_client import CollectorRegistry
from starlette.authentication import AuthCredentials, AuthenticationBackend, AuthenticationError, UnauthenticatedUser
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.events.request import read_head
from service.resources import check_settings, open_resources
from service.sessions.check import SessionCheck, SessionUser
from service.sessions.refusal import ABSENT_REFUSED, Refusal
from service.settings import ConfigurationError, load_settings
from service.telemetry.metrics import Metrics

logger = logging.getLogger("service.guard")

POLICY_VIOLATION = 1008
"""Close code of a WebSocket (RFC 6455, section 7.4.1); before it is accepted, servers answer 403 instead."""

_PREFLIGHT_HEADERS = {b"origin", b"access-control-request-method"}


@asynccontextmanager
async def open_session_check(registry: CollectorRegistry | None = None) -> AsyncIterator[SessionCheck]:
    """Open keys, revocation list and event log, as the environment says, and give a check over them.

    Args:
        registry: shows the guard's numbers with its own while the check is open.

    Raises:
        ConfigurationError: a setting is missing or unusable.
    """
    settings = load_settings(for_guard=True)
    check_settings(settings)
    if settings.revocations_url.get_secret_value() == "memory://":
        logger.warning(
            "REVOCATIONS_URL is memory://, so this guard learns of no logout; set the service's redis:// URL"
        )
    metrics = Metrics()
    async with AsyncExitStack() as stack:
        if registry is not None:
            registry.register(metrics.registry)
            stack.callback(registry.unregister, metrics.registry)
        resources = await stack.enter_async_context(open_resources(settings, metrics))
        yield resources.session_check


class LazyCheck:
    """A check that is opened when it is first needed; one that somebody else opened is left to them."""

    def __init__(self, given: SessionCheck | None, registry: CollectorRegistry | None = None) -> None:
        self._given = self._check = given
        self._registry = registry
        self._stack = AsyncExitStack()
        self._lock = asyncio.Lock()

    async def get(self) -> SessionCheck:
        """Give the check, opened or not before; a ``ConfigurationError`` says why it cannot be."""
        if self._check is not None:
            return self._check
        async with self._lock:
            if self._check is None:  # else another request has opened it meanwhile
                self._check = await self._stack.enter_async_context(open_session_check(self._registry))
            return self._check

    async def close(self) -> None:
        """Close what was opened here; a later request opens it anew."""
        self._check = self._given
        await self._stack.aclose()


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
        self._check = LazyCheck(check, registry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
            return
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


class SessionBackend(AuthenticationBackend):
    """For applications with public and protected routes: no token is an unauthenticated user, a bad one is refused.

    Routes ask for a user with ``@requires("authenticated")``::

        sessions = SessionBackend()
        authentication = Middleware(AuthenticationMiddleware, backend=sessions, on_error=sessions.on_error)
        app = Starlette(routes=routes, middleware=[authentication], lifespan=sessions.lifespan)

    Args:
        check: as ``SessionGuard``'s; without it one is opened by ``lifespan``, or else by the first request.
        allow_pending: as ``SessionGuard``'s.
    """

    def __init__(self, check: SessionCheck | None = None, *, allow_pending: bool = False) -> None:
        self._allow_pending = allow_pending
        self._check = LazyCheck(check)

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, SessionUser] | None:
        """Give the user of a request, None without a token; an ``AuthenticationError`` where it does not count."""
        outcome = await (await self._check.get())(read_head(conn.scope), allow_pending=self._allow_pending)
        if not isinstance(outcome, Refusal):
            return AuthCredentials(["authenticated"]), outcome
        if outcome == ABSENT_REFUSED:
            return None
        raise AuthenticationError(outcome)

    @staticmethod
    def on_error(_: HTTPConnection, error: AuthenticationError) -> Response:
        """Answer as ``SessionGuard`` does."""
        refusal: Refusal = error.args[0]
        return refusal.response()

    @asynccontextmanager
    async def lifespan(self, _: Any) -> AsyncIterator[None]:  # noqa: ANN401 - any application
        """Open before the application starts, close after it: for its ``lifespan`` argument."""
        try:
            await self._check.get()
            yield
        finally:
            await self._check.close()

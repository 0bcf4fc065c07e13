"""``SessionBackend``: for applications with public and protected routes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.authentication import AuthCredentials, AuthenticationBackend, AuthenticationError
from starlette.requests import HTTPConnection
from starlette.responses import Response

from service.events.request import read_head
from service.guard.opening import LazyCheck
from service.sessions.check import SessionCheck, SessionUser
from service.sessions.refusal import ABSENT_REFUSED, Refusal


class SessionRefusedError(AuthenticationError):
    """A token was sent, and does not count. Its text is the reason code."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal


class SessionBackend(AuthenticationBackend):
    """For Starlette's ``AuthenticationMiddleware``: no token is an unauthenticated user, a bad one is refused.

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
        """Give the user of a request, None without a token; a ``SessionRefusedError`` where it does not count."""
        outcome = await (await self._check.get())(read_head(conn.scope), allow_pending=self._allow_pending)
        if not isinstance(outcome, Refusal):
            return AuthCredentials(["authenticated"]), outcome
        if outcome == ABSENT_REFUSED:
            return None
        raise SessionRefusedError(outcome)

    @staticmethod
    def on_error(_: HTTPConnection, error: AuthenticationError) -> Response:
        """Answer as ``SessionGuard`` does."""
        assert isinstance(error, SessionRefusedError)  # noqa: S101 - this backend raises no other
        return error.refusal.response()

    @asynccontextmanager
    async def lifespan(self, _: Any) -> AsyncIterator[None]:  # noqa: ANN401 - any application
        """Open before the application starts, close after it: for its ``lifespan`` argument."""
        try:
            await self._check.get()
            yield
        finally:
            await self._check.close()

"""Which path leads to which endpoint."""

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

Endpoint = Callable[[Request[Any]], Awaitable[Response]]


def by_method(**endpoints: Endpoint) -> Endpoint:
    """Give an endpoint that leads to one of several by the request's method; ``HEAD`` is a ``GET`` without a body."""
    by_name = endpoints | {"HEAD": endpoints["GET"]}

    async def endpoint(request: Request[Any]) -> Response:
        return await by_name[request.method](request)

    return endpoint


class ExactRoute(Route):
    """A route without parameters whose path must be the whole path.

    Starlette's own pattern ends in ``$``, which matches before a newline at the end (``%0a``), too.
    """

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Tell whether a request is for this route."""
        if scope["path"].endswith("\n"):
            return Match.NONE, {}
        return super().matches(scope)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 405; Starlette's own would name the methods in another order each time."""
        if self.methods and scope["method"] not in self.methods:
            raise HTTPException(405, headers={"Allow": ", ".join(sorted(self.methods))})
        await self.app(scope, receive, send)

"""Which path and method lead to which endpoint."""

from collections.abc import Awaitable, Callable, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import Lifespan, Receive, Scope, Send

Endpoint = Callable[[Request], Awaitable[Response]]


class ExactRouter(Router):
    """Starlette's router for routes without parameters: the whole path is looked up, not matched with each in turn.

    Starlette's own patterns end in ``$``, which matches before a newline at the end (``%0a``), too; it redirects to a
    path with another slash, which costs the caller a second request that may never be sent; and it names the methods
    of a 405 in another order each time.

    Args:
        routes: to functions of a request that return a response; several may have the same path, for different methods.
        lifespan: of the application.
    """

    def __init__(self, routes: Sequence[Route], lifespan: Lifespan[Starlette]) -> None:
        super().__init__(routes, redirect_slashes=False, lifespan=lifespan)
        self._endpoints: dict[str, dict[str, Endpoint]] = {}
        for route in routes:
            self._endpoints.setdefault(route.path, {}).update(dict.fromkeys(route.methods or (), route.endpoint))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or raise an ``HTTPException`` that says 404 or 405."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        by_method = self._endpoints.get(scope["path"])
        if by_method is None:
            raise HTTPException(404)
        endpoint = by_method.get(scope["method"])
        if endpoint is None:
            raise HTTPException(405, headers={"Allow": ", ".join(sorted(by_method))})
        response = await endpoint(Request(scope, receive, send))
        await response(scope, receive, send)

"""Which path and method lead to which endpoint."""

from collections.abc import Awaitable, Callable, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route, Router
from starlette.types import ASGIApp, ExceptionHandler, Lifespan, Receive, Scope, Send


class Application(Starlette):
    """Starlette's application, with one endpoint beside it.

    What Starlette puts around an endpoint turns exceptions into answers. An endpoint that answers whatever happens
    needs none of it, and is led past it, because that is a few per cent of what a logout costs.

    Args:
        routes: of all endpoints, the one beside it included.
        lifespan: of the application.
        problem: turns an ``HTTPException`` into an answer.
        always_answers: the method and path of that endpoint.
        around: puts middleware around both.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        lifespan: Lifespan[Starlette],
        *,
        problem: ExceptionHandler,
        always_answers: tuple[str, str],
        around: Callable[[ASGIApp], ASGIApp],
    ) -> None:
        super().__init__(exception_handlers={HTTPException: problem})
        self.router = self._router = ExactRouter(routes, lifespan)
        self._always_answers = always_answers
        self._around = around

    def build_middleware_stack(self) -> ASGIApp:
        """Put together what a request passes."""
        method, path = self._always_answers
        endpoint = self._router.endpoint(method, path)
        others = super().build_middleware_stack()

        def lead(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
            is_http = scope["type"] == "http"
            app = endpoint if is_http and scope["path"] == path and scope["method"] == method else others
            return app(scope, receive, send)

        return self._around(lead)


class ExactRouter(Router):
    """Starlette's router for routes without parameters: the whole path is looked up, not matched with each in turn.

    Starlette's own patterns end in ``$``, which matches before a newline at the end (``%0a``), too; it redirects to a
    path with another slash, which costs the caller a second request that may never be sent; and it names the methods
    of a 405 in another order each time.

    Args:
        routes: several may have the same path, for different methods.
        lifespan: of the application.
    """

    def __init__(self, routes: Sequence[Route], lifespan: Lifespan[Starlette]) -> None:
        super().__init__(routes, redirect_slashes=False, lifespan=lifespan)
        self._endpoints: dict[str, dict[str, ASGIApp]] = {}
        for route in routes:
            self._endpoints.setdefault(route.path, {}).update(dict.fromkeys(route.methods or (), route.app))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or raise an ``HTTPException`` that says 404 or 405."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        await self.endpoint(scope["method"], scope["path"])(scope, receive, send)

    def endpoint(self, method: str, path: str) -> ASGIApp:
        """Give an endpoint, or raise an ``HTTPException`` that says 404 or 405."""
        by_method = self._endpoints.get(path)
        if by_method is None:
            raise HTTPException(404)
        endpoint = by_method.get(method)
        if endpoint is None:
            raise HTTPException(405, headers={"Allow": ", ".join(sorted(by_method))})
        return endpoint

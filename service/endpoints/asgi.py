"""What a request passes on its way to an endpoint: the middleware, and the router."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from time import perf_counter

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Lifespan, Message, Receive, Scope, Send

from service.endpoints.cors import Preflights
from service.events.request import NONE, read_head
from service.telemetry.metrics import Children, Metrics

SESSION = "/v1/auth/session"

Endpoint = Callable[[Request], Awaitable[Response]]

_NO_STORE = (b"cache-control", b"no-store")
_NO_SNIFF = (b"x-content-type-options", b"nosniff")
_EXPOSED = (b"access-control-expose-headers", b"X-Request-ID, WWW-Authenticate, Retry-After")


class ResponseHeaders:
    """Pure ASGI middleware: the headers that every response carries, CORS among them.

    The request's head is read here, once; endpoints find it in their state. Requests are counted by how long each took
    until its response began. Label values are bounded: a path or method that is none of ours is ``other``.

    Args:
        app: what is called.
        origins: whose pages may read the response.
        routes: our paths, and their methods.
        metrics: where requests are counted.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        origins: Collection[str],
        routes: Sequence[Route],
        metrics: Metrics,
    ) -> None:
        self._app = app
        self._options = Preflights(app, origins, metrics)
        # As Starlette's middleware would add them, which copies the headers of request and response for it.
        allowed = [(b"vary", b"Origin"), (b"access-control-allow-credentials", b"true"), _EXPOSED]
        self._cors = {
            (name := origin.encode("ascii")): [*allowed, (b"access-control-allow-origin", name)] for origin in origins
        }
        self._other_origin = allowed[:1] if origins else []
        self._paths = {route.path for route in routes}
        self._methods = {"OPTIONS"}.union(*(route.methods or () for route in routes))  # with that of preflights
        self._durations = Children(metrics.request_duration)
        # From the start at 0, so that Prometheus sees the first one: it should never come.
        _ = self._durations["DELETE", SESSION, "500"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; add the headers, and count it, when its response starts."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = perf_counter()
        answered = False
        if raw_path := scope.get("raw_path"):
            scope["path"] = raw_path.decode("latin-1")  # as sent: decoded, `/%6detrics` passes a proxy's rule for it
        method, path = scope["method"], scope["path"]
        method_label = method if method in self._methods else "other"
        path_label = path if path in self._paths else "other"
        head = scope.setdefault("state", {})["head"] = read_head(scope)
        app, cors = self._app, self._cors.get(head.headers.get(b"origin", NONE)[0], self._other_origin)
        if method == "OPTIONS":
            app, cors = self._options, []

        def send_with_headers(message: Message) -> Awaitable[None]:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                labels = method_label, path_label, str(message["status"])
                self._durations[labels].observe(perf_counter() - started)
                headers = [*message["headers"], *cors, (b"x-request-id", head.request_id.encode("ascii"))]
                if _NO_STORE not in headers:  # a refusal brings it, for applications without this middleware
                    headers.append(_NO_STORE)
                message["headers"] = [*headers, _NO_SNIFF]
            return send(message)

        try:
            await app(scope, receive, send_with_headers)
        except Exception:
            if not answered:  # Starlette answers 500
                self._durations[method_label, path_label, "500"].observe(perf_counter() - started)
            raise


class ExactRouter(Router):
    """Starlette's router for routes without parameters: the whole path is looked up, not matched with each in turn.

    Starlette's own patterns match before a newline at the end (``%0a``), too, and it redirects to a path with another
    slash, which costs the caller a second request that may never be sent.

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

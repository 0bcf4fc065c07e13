"""What every response carries, the id that ties a request to its event, and how long an answer took."""

from collections.abc import Collection
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.metrics import Children, Metrics
from service.request.request_id import request_id_of

SESSION = "/v1/auth/session"

_FIXED_HEADERS = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))


class Durations:
    """Counts requests by how long each took until its response began.

    Label values are bounded: a path or method that is none of ours, which a stranger chooses, is ``other``.

    Args:
        metrics: where they are counted.
        paths: our paths.
        methods: the methods that our paths have between them.
    """

    def __init__(self, metrics: Metrics, paths: Collection[str] = (), methods: Collection[str] = ()) -> None:
        self._paths = {path: path for path in paths}
        self._methods = {method: method for method in methods}
        self._durations = Children(metrics.request_duration)
        if SESSION in self._paths:
            # From the start at 0, so that Prometheus sees the first one: it should never come.
            _ = self._durations["DELETE", SESSION, "500"]

    def count(self, scope: Scope, status: int, seconds: float) -> None:
        """Count one request."""
        method = self._methods.get(scope["method"], "other")
        path = self._paths.get(scope["path"], "other")
        self._durations[method, path, str(status)].observe(seconds)


class ResponseHeaders:
    """Pure ASGI middleware: ``X-Request-ID``, ``Cache-Control: no-store`` and ``X-Content-Type-Options: nosniff``.

    The request id is the caller's when it is 1-128 visible ASCII characters, else a new UUIDv7. Endpoints find it in
    ``request.state.request_id``.

    The duration is counted here as well, because one more middleware would cost every request 2 µs more.
    """

    def __init__(self, app: ASGIApp, durations: Durations | None = None) -> None:
        self._app = app
        self._durations = durations or Durations(Metrics())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its id; add the headers, and count it, when its response starts."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = perf_counter()
        answered = False
        request_id = request_id_of(scope["headers"])
        scope.setdefault("state", {})["request_id"] = request_id.decode("ascii")

        async def send_with_headers(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                self._durations.count(scope, message["status"], perf_counter() - started)
                # A refusal of the guard brings its own Cache-Control, for applications without this middleware.
                own = [header for header in message["headers"] if header[0] != b"cache-control"]
                message["headers"] = [*own, (b"x-request-id", request_id), *_FIXED_HEADERS]
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception:
            if not answered:  # uvicorn answers 500
                self._durations.count(scope, 500, perf_counter() - started)
            raise

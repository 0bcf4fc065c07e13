"""What surrounds every endpoint: the headers of each response, the request's head, and how long an answer took."""

from collections.abc import Awaitable, Collection, Sequence
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.endpoints.cors import Cors
from service.events.request_head import read_head
from service.telemetry.metrics import Children, Metrics

SESSION = "/v1/auth/session"

_NO_STORE = (b"cache-control", b"no-store")
_NO_SNIFF = (b"x-content-type-options", b"nosniff")


class RequestDurations:
    """Counts requests by how long each took until its response began.

    Label values are bounded: a path or method that is none of ours, which a stranger chooses, is ``other``.

    Args:
        metrics: where they are counted.
        paths: our paths.
        methods: the methods that our paths have between them.
    """

    def __init__(self, metrics: Metrics, paths: Collection[str], methods: Collection[str]) -> None:
        self._paths = frozenset(paths)
        self._methods = frozenset(methods)
        self._durations = Children(metrics.request_duration)
        # From the start at 0, so that Prometheus sees the first one: it should never come.
        _ = self._durations["DELETE", SESSION, "500"]

    def count(self, scope: Scope, status: int, seconds: float) -> None:
        """Count one request."""
        method, path = scope["method"], scope["path"]
        labels = method if method in self._methods else "other", path if path in self._paths else "other", str(status)
        self._durations[labels].observe(seconds)


class ResponseHeaders:
    """Pure ASGI middleware: ``X-Request-ID``, ``Cache-Control: no-store`` and ``X-Content-Type-Options: nosniff``.

    The request's head is read here, once; endpoints find it in their state. CORS and durations are done here as well,
    because each middleware of its own would look at the same messages again.

    Args:
        app: what is called.
        durations: counts how long answers took.
        cors: which pages of other origins may read the response; without it none.
    """

    def __init__(self, app: ASGIApp, durations: RequestDurations, cors: Cors | None = None) -> None:
        self._app = app
        self._durations = durations
        self._cors = cors
        self._options = app if cors is None else cors.answering_preflights(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; add the headers, and count it, when its response starts."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = perf_counter()
        answered = False
        head = scope.setdefault("state", {})["head"] = read_head(scope)
        request_id = (b"x-request-id", head.request_id.encode("ascii"))
        app = self._app
        allowed: Sequence[tuple[bytes, bytes]] = ()
        if scope["method"] == "OPTIONS":
            app = self._options
        elif self._cors is not None:
            allowed = self._cors.headers(head.headers)

        def send_with_headers(message: Message) -> Awaitable[None]:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                self._durations.count(scope, message["status"], perf_counter() - started)
                # A refusal of the guard brings its own Cache-Control, for applications without this middleware.
                own = [header for header in message["headers"] if header[0] != b"cache-control"]
                message["headers"] = [*own, *allowed, request_id, _NO_STORE, _NO_SNIFF]
            return send(message)

        try:
            await app(scope, receive, send_with_headers)
        except Exception:
            if not answered:  # Starlette answers 500
                self._durations.count(scope, 500, perf_counter() - started)
            raise

"""What every response carries, and the id that ties a request to its event."""

import re

import uuid_utils
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_usable_request_id = re.compile(rb"[!-~]{1,128}").fullmatch


class ResponseHeaders:
    """Pure ASGI middleware: ``X-Request-ID``, ``Cache-Control: no-store`` and ``X-Content-Type-Options: nosniff``.

    The request id is the caller's when it is 1-128 visible ASCII characters, else a new UUIDv7. Endpoints find it in
    ``request.state.request_id``.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its id; add the headers when its response starts."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        if not _usable_request_id(request_id):
            request_id = str(uuid_utils.uuid7()).encode("ascii")
        scope.setdefault("state", {})["request_id"] = request_id.decode("ascii")

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", request_id),
                    (b"cache-control", b"no-store"),
                    (b"x-content-type-options", b"nosniff"),
                ]
            await send(message)

        await self._app(scope, receive, send_with_headers)

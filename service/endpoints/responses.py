"""Answers in JSON."""

from collections.abc import Iterable

import orjson
from starlette.responses import Response
from starlette.types import Send


class JSONResponse(Response):
    """A JSON answer rendered by orjson."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        """Give the body."""
        return orjson.dumps(content)


async def send_json(send: Send, content: object, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    """Answer 200 in JSON: the same as a ``JSONResponse``, without an object for it.

    Args:
        send: ASGI's.
        content: the body.
        headers: further ones, names in lower case.
    """
    body = orjson.dumps(content)
    own = (b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")
    await send({"type": "http.response.start", "status": 200, "headers": [*own, *headers]})
    await send({"type": "http.response.body", "body": body})

"""Answers in JSON, refusals among them, and the browser's session cookies, expired."""

from collections.abc import Iterable

import orjson
from starlette.responses import Response

_PARTITIONED = b"; Secure; SameSite=None; Partitioned"


class JSONResponse(Response):
    """A JSON answer rendered by orjson."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        """Give the body."""
        return orjson.dumps(content)


def refused(status: int, reason: str, message: str, *, retry_after: int | None = None, **more: object) -> JSONResponse:
    """Give an answer that says why not: a reason code, the same in words, and ``retry_after`` in seconds."""
    content = {"success": False, "message": message, "reason": reason, **more}
    return JSONResponse(content, status, None if retry_after is None else {"Retry-After": str(retry_after)})


def expire_cookies(response: Response, names: Iterable[str]) -> None:
    """Have the browser forget cookies by name, partitioned ones (CHIPS) too, which it keeps beside the others."""
    for name in names:
        expired = f"{name}=; Max-Age=0; Path=/".encode("ascii")
        response.raw_headers += [(b"set-cookie", expired), (b"set-cookie", expired + _PARTITIONED)]

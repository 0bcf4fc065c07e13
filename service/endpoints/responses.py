"""Answers in JSON, and the browser's session cookies, expired."""

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


def expire_cookies(response: Response, names: Iterable[str]) -> None:
    """Have the browser forget cookies, partitioned ones (CHIPS) too, which it keeps beside the others.

    Args:
        response: carries the headers that say so.
        names: of the session cookies that the request carried.
    """
    for name in names:
        expired = f"{name}=; Max-Age=0; Path=/".encode("ascii")
        response.raw_headers += [(b"set-cookie", expired), (b"set-cookie", expired + _PARTITIONED)]

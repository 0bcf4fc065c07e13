"""Answers in JSON."""

import orjson
from starlette.responses import Response


class JSONResponse(Response):
    """A JSON answer rendered by orjson."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        """Give the body."""
        return orjson.dumps(content)

"""The head of a request, read once for whoever looks at it."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import uuid_utils
from starlette.types import Scope

Headers = Mapping[bytes, Sequence[bytes]]
"""The values of each header by its name in lower case, in the order in which they were sent."""
NONE: Sequence[bytes] = (b"",)
"""In place of the values of a header that was not sent, where an empty one means the same."""

_is_usable_id = re.compile(rb"[!-~]{1,128}").fullmatch


class RequestHead(NamedTuple):
    """What is looked at in a request's head, read once.

    Attributes:
        headers: as sent.
        request_id: its ``X-Request-ID`` when that is 1-128 visible ASCII characters, else a new UUIDv7.
        peer: the address at the other end of the connection; None where the server tells none.
    """

    headers: Headers
    request_id: str
    peer: str | None


def read_head(scope: Scope) -> RequestHead:
    """Read the head of an ASGI request or WebSocket."""
    headers: dict[bytes, list[bytes]] = {}
    for name, value in scope["headers"]:
        if name in headers:
            headers[name].append(value)
        else:
            headers[name] = [value]
    sent = headers.get(b"x-request-id", NONE)[0]
    request_id = sent.decode("ascii") if _is_usable_id(sent) else str(uuid_utils.uuid7())
    peer = scope.get("client")
    return RequestHead(headers, request_id, peer[0] if peer else None)

"""The id that ties a request to its event and its response."""

import re
from collections.abc import Iterable

import uuid_utils

_is_usable = re.compile(rb"[!-~]{1,128}").fullmatch


def request_id_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Give the first ``X-Request-ID`` when it is 1-128 visible ASCII characters, else a new UUIDv7.

    Args:
        headers: as in an ASGI scope, names in lower case.
    """
    sent = next((value for name, value in headers if name == b"x-request-id"), b"")
    return sent if _is_usable(sent) else str(uuid_utils.uuid7()).encode("ascii")

"""The id that ties a request to its event and its response."""

import re
from collections.abc import Mapping

import uuid_utils

_is_usable = re.compile(rb"[!-~]{1,128}").fullmatch


def request_id_of(sent: Mapping[bytes, bytes]) -> bytes:
    """Give ``X-Request-ID`` when it is 1-128 visible ASCII characters, else a new UUIDv7.

    Args:
        sent: the request's headers, of each name the first.
    """
    request_id = sent.get(b"x-request-id", b"")
    return request_id if _is_usable(request_id) else str(uuid_utils.uuid7()).encode("ascii")

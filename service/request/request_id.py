"""The id that ties a request to its event and its response."""

import re

import uuid_utils

from service.request.headers import Headers, first_values

_is_usable = re.compile(rb"[!-~]{1,128}").fullmatch


def request_id_of(headers: Headers) -> bytes:
    """Give the first ``X-Request-ID`` when it is 1-128 visible ASCII characters, else a new UUIDv7."""
    sent = first_values(headers).get(b"x-request-id", b"")
    return sent if _is_usable(sent) else str(uuid_utils.uuid7()).encode("ascii")

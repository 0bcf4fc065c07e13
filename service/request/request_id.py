"""The id that ties a request to its event and its response."""

import re

import uuid_utils

from service.request.headers import Headers, values_of

_is_usable = re.compile(rb"[!-~]{1,128}").fullmatch


def request_id_of(headers: Headers) -> bytes:
    """Give the first ``X-Request-ID`` when it is 1-128 visible ASCII characters, else a new UUIDv7."""
    sent = values_of(b"x-request-id", headers)
    return sent[0] if sent and _is_usable(sent[0]) else str(uuid_utils.uuid7()).encode("ascii")

"""What a load sends: pools of real tokens, and the requests that carry them."""

import itertools
import time
from collections.abc import Iterable
from functools import partial

from cryptography.hazmat.primitives.asymmetric import rsa

from tests.faults.load import Request
from tests.support.signing import KID, b64url, claims, header, token

VALID_FOR = 3600
"""Seconds; Clerk's own tokens live 60, but a load runs longer."""

_numbers = itertools.count()


def valid(count: int, *, kid: str = KID, key: rsa.RSAPrivateKey | None = None) -> list[str]:
    """Session tokens of so many different sessions."""
    now = int(time.time())
    return [
        token(claims(sid=f"sess_{next(_numbers):08}", exp=now + VALID_FOR), head=header(kid=kid), key=key)
        for _ in range(count)
    ]


def expired(count: int) -> list[str]:
    """Session tokens that were valid until a minute ago."""
    then = int(time.time()) - 120
    return [token(claims(now=then, sid=f"sess_{next(_numbers):08}")) for _ in range(count)]


def forged(count: int, *, kid: str = KID) -> list[str]:
    """Session tokens with a signature of the right length that nobody made."""
    return [one.rpartition(".")[0] + "." + b64url(bytes([0x5A]) * 256) for one in valid(count, kid=kid)]


def calls(line: str, tokens: Iterable[str | None] = (None,), *, close: bool = False) -> Request:
    """Requests with this method and path, and with these tokens in turn, None for none.

    Args:
        line: for example ``GET /healthz``.
        tokens: used over and over.
        close: ask the server to end the connection after the answer, so that each request has one of its own.
    """
    head = f"{line} HTTP/1.1\r\nHost: service\r\n" + ("Connection: close\r\n" if close else "")
    fields = ["" if one is None else f"Authorization: Bearer {one}\r\n" for one in tokens]
    raw = [f"{head}{field}\r\n".encode() for field in fields]
    return lambda number: raw[number % len(raw)]


logouts = partial(calls, "DELETE /v1/auth/session")

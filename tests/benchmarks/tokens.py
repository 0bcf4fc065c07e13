"""Session tokens of 500 people, each with a session of their own, really signed."""

import json
import time
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from tests.support.signing import KID, claims, header, private_key, token_of

USERS = 500
LIFETIME = 6 * 3600
"""Seconds; longer than any run, so that one set of tokens serves the whole of it."""


def user_id(number: int) -> str:
    """Give the id of one of them, as long as Clerk's are."""
    return f"user_2bench{number:021d}"


def valid(*, size: int = 0, kid: str = KID, key: RSAPrivateKey | None = None) -> list[str]:
    """Give good tokens.

    Args:
        size: characters that each has at least, reached by a claim of the application's own.
        kid: the key's id.
        key: who signs.
    """
    plain = len(_token(0, kid, key))
    # Base64 makes four characters of three bytes; `,"metadata":""` are 14 of them.
    metadata = "x" * ((size - plain) * 3 // 4 - 14) or None
    return [_token(number, kid, key, metadata=metadata) for number in range(USERS)]


def expired() -> list[str]:
    """Give tokens that were good an hour ago."""
    return [_token(number, KID, None, now=time.time() - LIFETIME - 3600) for number in range(USERS)]


def forged() -> list[str]:
    """Give tokens that somebody else has signed."""
    return [_token(number, KID, private_key("somebody else")) for number in range(USERS)]


KINDS: dict[str, Callable[[], list[str]]] = {
    "verified": valid,
    "absent": lambda: [""],
    "rejected": forged,
    "expired": expired,
}
"""Tokens by the verdict on them; an empty one is not sent."""


def _token(
    number: int, kid: str, key: RSAPrivateKey | None, *, now: float | None = None, metadata: str | None = None
) -> str:
    issued = time.time() if now is None else now
    of = claims(
        now=issued,
        exp=int(issued) + LIFETIME,
        jti=f"{number:020x}",
        sid=f"sess_2bench{number:021d}",
        sub=user_id(number),
        metadata=metadata,
    )
    # Without blanks, as Clerk writes them.
    head, payload = (json.dumps(part, separators=(",", ":")).encode() for part in (header(kid=kid), of))
    return token_of(head, payload, key)

"""Where a request carries its session token: the Authorization header, else Clerk's cookies."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

MAX_CANDIDATES = 4
MAX_COOKIES = 256
"""More than any browser keeps for one site; bounds what a hostile request makes us answer."""

_COOKIE = b"__session"
# Clerk's suffix is eight characters of base64url; a little more is allowed for, a control character never.
_COOKIE_NAME = re.compile(rb"__session(?:_[A-Za-z0-9_-]{1,64})?")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request carries.

    Attributes:
        tokens: at most four candidates, as sent; empty when there is none.
        cookies: the names of the session cookies, also of those that were not looked at.
    """

    tokens: tuple[bytes, ...]
    cookies: tuple[str, ...]


def read_credentials(headers: Iterable[tuple[bytes, bytes]]) -> Credentials:
    """Read ASGI headers (names in lower case). Never raises, whatever the bytes are.

    A Bearer header (RFC 6750, section 2.1; the scheme in any letter case, RFC 9110, section 11.1) goes before cookies.
    Any other scheme, and a Bearer without a token, is no token.
    """
    bearers: list[bytes] = []
    cookies: list[tuple[bytes, bytes]] = []
    for name, value in headers:
        if name == b"authorization":
            scheme, _, token = value.strip(b" \t").partition(b" ")
            if scheme.lower() == b"bearer" and (token := token.strip(b" \t")):
                bearers.append(token)
        elif name == b"cookie" and _COOKIE in value:
            _read_cookies(value, cookies)
    tokens = bearers or [token for _, token in cookies if token]
    names = dict.fromkeys(name for name, _ in cookies)
    return Credentials(_candidates(tokens), tuple(name.decode("ascii") for name in names))


def _read_cookies(header: bytes, found: list[tuple[bytes, bytes]]) -> None:
    """Split at semicolons only, so that no odd neighbour hides a session cookie (RFC 6265, section 5.4)."""
    for pair in header.split(b";"):
        name, separator, value = pair.partition(b"=")
        name = name.strip(b" \t")
        if separator and name.startswith(_COOKIE) and _COOKIE_NAME.fullmatch(name) and len(found) < MAX_COOKIES:
            value = value.strip(b" \t")
            if len(value) > 1 and value[:1] == value[-1:] == b'"':
                value = value[1:-1]
            found.append((name, value))


def _candidates(tokens: list[bytes]) -> tuple[bytes, ...]:
    """The four that look most like a JWT, each once, in the order they came."""
    if len(tokens) <= 1:
        return tuple(tokens)
    distinct = list(dict.fromkeys(tokens))
    if len(distinct) > MAX_CANDIDATES:
        distinct.sort(key=lambda token: token.count(b".") != 2)  # noqa: PLR2004 - three parts have two dots
    return tuple(distinct[:MAX_CANDIDATES])

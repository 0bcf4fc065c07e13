"""Where a request carries its session token: the Authorization header, else Clerk's cookies."""

import re
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import NamedTuple

MAX_CANDIDATES = 4
MAX_COOKIES = 256
"""Names that are reported: more cookies than any browser keeps for one site."""
MAX_MATCHES = 1024
"""Session cookies of one header that are looked at."""
MAX_BLANKS = 16
"""Characters of white space between two cookies; browsers send one."""
MAX_TOKEN_BYTES = 8192

# Clerk's suffix is eight characters of base64url; a little more is allowed for, a control character never. Possessive
# quantifiers, so that a hostile header costs one pass.
_SESSION_COOKIE = re.compile(rb"(__session(?:_[A-Za-z0-9_-]{1,64}+)?+)[ \t]*+=([^;]*)")


class Credentials(NamedTuple):
    """What a request carries: at most four tokens as sent, and the names of all session cookies."""

    tokens: tuple[bytes, ...]
    cookies: tuple[str, ...]


def read_credentials(headers: Mapping[bytes, Sequence[bytes]]) -> Credentials:
    """Read headers, whose names are in lower case. Never raises, whatever the bytes are.

    A Bearer header (RFC 6750, section 2.1; the scheme in any letter case, RFC 9110, section 11.1) takes precedence
    over cookies. Any other scheme, and a Bearer without a token, counts as no token.
    """
    bearers: list[bytes] = []
    cookies: list[tuple[bytes, bytes]] = []
    for value in headers.get(b"authorization", ()):
        scheme, _, token = value.strip(b" \t").partition(b" ")
        if scheme.lower() == b"bearer" and (token := token.strip(b" \t")):
            bearers.append(token)
    for value in headers.get(b"cookie", ()):
        _read_cookies(value, cookies)
    if not cookies:
        return Credentials(_candidates(bearers), ())
    tokens = bearers or [token for _, token in cookies if token]
    names = list(dict.fromkeys(name for name, _ in cookies))[:MAX_COOKIES]
    return Credentials(_candidates(tokens), tuple(name.decode("ascii") for name in names))


def _read_cookies(header: bytes, found: list[tuple[bytes, bytes]]) -> None:
    """Find session cookies only, so that no odd neighbour hides one (RFC 6265, section 5.4) or costs time."""
    for match in islice(_SESSION_COOKIE.finditer(header), MAX_MATCHES):
        start = match.start()
        before = header[max(0, start - MAX_BLANKS) : start].rstrip(b" \t")
        if before.endswith(b";") or (not before and start < MAX_BLANKS):
            name, value = match[1], match[2].strip(b" \t")
            if len(value) > 1 and value[:1] == value[-1:] == b'"':
                value = value[1:-1]
            found.append((name, value))


def _candidates(tokens: list[bytes]) -> tuple[bytes, ...]:
    """Return the four that look most like a JWT, each once, in the order sent."""
    if len(tokens) <= 1:
        return tuple(tokens)
    distinct = list(dict.fromkeys(tokens))
    if len(distinct) > MAX_CANDIDATES:
        distinct.sort(key=lambda token: not _looks_like_a_jwt(token))
    return tuple(distinct[:MAX_CANDIDATES])


def _looks_like_a_jwt(token: bytes) -> bool:
    # `eyJ` is base64url for `{"`, with which a JOSE header begins.
    return len(token) <= MAX_TOKEN_BYTES and token.startswith(b"eyJ") and token.count(b".") == 2  # noqa: PLR2004

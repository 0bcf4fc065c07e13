"""Where a request carries its session token: the Authorization header, else Clerk's cookies."""

import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha1
from itertools import islice
from typing import NamedTuple

MAX_COOKIES = 256
"""Names that are reported: more cookies than any browser keeps for one site."""
MAX_MATCHES = 1024
"""Session cookies of one header that are looked at."""
MAX_BLANKS = 16
"""Characters of white space between two cookies; browsers send one."""
MAX_TOKEN_BYTES = 8192

# What JavaScript and others write for a missing token, such as `Bearer ${await getToken()}`.
_is_no_token = re.compile(
    rb"""["']?(null|undefined|none|nil|nan|true|false|0|\[object \w+\])?["']?""", re.IGNORECASE
).fullmatch
# Clerk's suffix is eight characters of base64url; a little more is allowed for, a control character never. Possessive
# quantifiers, so that a hostile header costs one pass.
_SESSION_COOKIE = re.compile(rb"(__session(?:_[A-Za-z0-9_-]{1,64}+)?+)[ \t]*+=([^;]*)")


class Credentials(NamedTuple):
    """What a request carries: tokens as sent, each once, and the names of its session cookies."""

    tokens: tuple[bytes, ...]
    cookies: tuple[str, ...]


def session_cookies(publishable_key: str | None) -> frozenset[bytes] | None:
    """Return the names of an instance's session cookies; None, for any, without a key. Clerk's rule for the suffix."""
    if publishable_key is None:
        return None
    suffix = urlsafe_b64encode(sha1(publishable_key.encode(), usedforsecurity=False).digest())[:8]
    return frozenset((b"__session", b"__session_" + suffix))


def read_credentials(headers: Mapping[bytes, Sequence[bytes]], ours: frozenset[bytes] | None = None) -> Credentials:
    """Read headers, whose names are in lower case. Never raises, whatever the bytes are.

    A Bearer header (RFC 6750, section 2.1; the scheme in any letter case, RFC 9110, section 11.1) takes precedence
    over cookies. Any other scheme, and a Bearer without a token, counts as no token.

    Args:
        headers: all values of each.
        ours: the names of the session cookies to look at; None for any.
    """
    bearers: list[bytes] = []
    cookies: list[tuple[bytes, bytes]] = []
    for value in headers.get(b"authorization", ()):
        for part in value.split(b","):  # a proxy may join two headers (RFC 9110, section 5.3); no token has a comma
            scheme, _, token = part.strip(b" \t").partition(b" ")
            if scheme.lower() == b"bearer" and not _is_no_token(token := token.strip(b" \t")):
                bearers.append(token)
    for value in headers.get(b"cookie", ()):
        _read_cookies(value, cookies)
    if not cookies:
        return Credentials(tuple(dict.fromkeys(bearers)), ())
    if ours is not None:
        cookies = [cookie for cookie in cookies if cookie[0] in ours]
    tokens = bearers or [token for _, token in cookies if not _is_no_token(token)]
    names = list(dict.fromkeys(name for name, _ in cookies))[:MAX_COOKIES]
    return Credentials(tuple(dict.fromkeys(tokens)), tuple(name.decode("ascii") for name in names))


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

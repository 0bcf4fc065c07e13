"""Whole HTTP requests as bytes: what goes over the wire is the same for every contender."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.support.signing import ORIGIN

BARE: Mapping[str, str] = {"Connection": "keep-alive"}
BROWSER: Mapping[str, str] = {
    "Connection": "keep-alive",
    "sec-ch-ua-platform": '"Linux"',
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/142.0.0.0 Safari/537.36",
    "sec-ch-ua": '"Chromium";v="142", "Google Chrome";v="142", "Not_A Brand";v="99"',
    "sec-ch-ua-mobile": "?0",
    "Accept": "*/*",
    "Origin": ORIGIN,
    "Sec-Fetch-Site": "same-site",
    "Sec-Fetch-Mode": "cors",
    "Sec-Fetch-Dest": "empty",
    "Referer": f"{ORIGIN}/",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Accept-Language": "en-US,en;q=0.9",
}
"""What Chromium sends with a fetch to another origin, beside Host and Authorization."""
HEADERS = {"bare": BARE, "browser": BROWSER}
HEADLINE = "bare"
"""The headers with which everything is measured that does not say otherwise."""

LOGOUT = "DELETE /v1/auth/session"


def request(token: str, headers: Mapping[str, str] = HEADERS[HEADLINE], *, line: str = LOGOUT) -> bytes:
    """Give one request; without a token it carries none."""
    own = {"Host": "logout.example.com"} | ({"Authorization": f"Bearer {token}"} if token else {})
    fields = "".join(f"{name}: {value}\r\n" for name, value in (own | dict(headers)).items())
    return f"{line} HTTP/1.1\r\n{fields}\r\n".encode()


def write(
    path: Path, tokens: Iterable[str], headers: Mapping[str, str] = HEADERS[HEADLINE], *, line: str = LOGOUT
) -> Path:
    """Write one request for each token into a file, as ``wrk.lua`` reads it."""
    path.write_bytes(b"".join(request(token, headers, line=line) for token in tokens))
    return path

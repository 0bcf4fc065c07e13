"""What is sent: the session tokens of 500 people, really signed, as whole HTTP requests, by wrk."""

import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from tests.support.signing import KID, ORIGIN, claims, header, private_key, token_of

USERS = 500
LIFETIME = 6 * 3600
"""Seconds; longer than any run, so that one set of tokens serves the whole of it."""
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
LOGOUT = "DELETE /v1/auth/session"
CONNECTIONS = 64
SECONDS = 3
"""How long wrk drives a contender at a time."""
SCRIPT = Path(__file__).with_name("wrk.lua")
TIMEOUT = 10
"""Seconds after which wrk counts a request as unanswered."""


def user_id(number: int) -> str:
    return f"user_2bench{number:021d}"


@cache
def verified(*, size: int = 0, kid: str = KID, key: RSAPrivateKey | None = None) -> Sequence[str]:
    """Give a good token for each user, of at least ``size`` characters, by a claim of the application's own."""
    # Base64 makes four characters of three bytes; `,"metadata":""` are 14 of them.
    metadata = "x" * ((size - len(_token(0, kid, key))) * 3 // 4 - 14) or None
    return [_token(number, kid, key, metadata=metadata) for number in range(USERS)]


@cache
def expired() -> Sequence[str]:
    """Give tokens that were good an hour ago."""
    return [_token(number, age=LIFETIME + 3600) for number in range(USERS)]


@cache
def forged() -> Sequence[str]:
    """Give tokens that somebody else has signed."""
    return [_token(number, key=private_key("somebody else")) for number in range(USERS)]


KINDS: dict[str, Callable[[], Sequence[str]]] = {
    "verified": verified,
    "absent": lambda: [""],
    "rejected": forged,
    "expired": expired,
}
"""Tokens by the verdict on them; an empty one is not sent."""


def _token(
    number: int, kid: str = KID, key: RSAPrivateKey | None = None, *, age: float = 0, metadata: str | None = None
) -> str:
    issued = time.time() - age
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


def request(token: str, headers: Mapping[str, str] = BARE, *, line: str = LOGOUT) -> bytes:
    """Give one request; without a token it carries none."""
    own = {"Host": "logout.example.com"} | ({"Authorization": f"Bearer {token}"} if token else {})
    fields = "".join(f"{name}: {value}\r\n" for name, value in (own | dict(headers)).items())
    return f"{line} HTTP/1.1\r\n{fields}\r\n".encode()


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk does: sends a file's requests in turn; ``pause`` is the mean of a connection's, in milliseconds."""

    requests: Path
    connections: int = CONNECTIONS
    seconds: int = SECONDS
    pause: float = 0


@dataclass(frozen=True, slots=True)
class Answers:
    """What came back, as wrk counted it; times in microseconds. ``not_ok`` is another status than 2xx or 3xx."""

    responses: int
    microseconds: int
    p50: int
    p99: int
    p999: int
    not_ok: int
    unanswered: int

    @property
    def rate(self) -> float:
        return self.responses / self.microseconds * 1e6


def drive(port: int, load: Load) -> Answers:
    options = ["-t1", f"-c{load.connections}", f"-d{load.seconds}s", f"--timeout={TIMEOUT}s", f"--script={SCRIPT}"]
    command = ["wrk", *options, f"http://127.0.0.1:{port}", "--", str(load.requests), str(load.pause)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return Answers(**json.loads(output.splitlines()[-1]))  # the script's line

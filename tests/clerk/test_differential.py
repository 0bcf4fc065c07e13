"""Our verdict beside Clerk's SDK, over thousands of tokens. Every difference has a name in ``STRICTER``."""

import json
import random
import string
import subprocess
from base64 import urlsafe_b64decode
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from clerk_backend_api.security import (
    AuthenticateRequestOptions,
    AuthStatus,
    TokenVerificationErrorReason,
    authenticate_request,
)

from service.clerk.keys import PemKey
from service.clerk.verdict import Auth
from service.clerk.verifier import Verifier
from tests.support.debian import need
from tests.support.signing import ISSUER, ORIGIN, SESSION_CATEGORY, b64url, claims, header, pem, private_key, sign

TOKENS = 6000
SEED = 20_260_101
NOW = 1_700_000_000
"""In the past, so that the tokens are the same in each run."""


# --- The three --------------------------------------------------------------------------------------------------------


class Request(NamedTuple):
    headers: Mapping[str, str]


def clerks(token: str) -> Auth:
    """Networkless. What it raises on a signed token with an odd ``o`` or ``fea`` comes after the verification."""
    options = AuthenticateRequestOptions(jwt_key=pem(), authorized_parties=[ORIGIN], accepts_token=["session_token"])
    try:
        state = authenticate_request(Request({"Authorization": f"Bearer {token}"}), options)
    except AttributeError:
        return Auth.VERIFIED
    if state.status is AuthStatus.SIGNED_IN:
        return Auth.VERIFIED
    return Auth.EXPIRED if state.reason is TokenVerificationErrorReason.TOKEN_EXPIRED else Auth.REJECTED


NODE = Path(__file__).with_name("node")


def javascripts(tokens: list[str]) -> list[Auth]:
    """Those of ``@clerk/backend``, as the lock names it."""
    npm = need("npm", "npm")  # brings node
    if not (NODE / "node_modules").exists():
        subprocess.run([npm, "ci", "--ignore-scripts", "--fetch-retries=1"], cwd=NODE, check=True, capture_output=True)
    sent = json.dumps({"tokens": tokens, "jwtKey": pem(), "authorizedParties": [ORIGIN], "issuer": ISSUER})
    said = subprocess.check_output(["node", "verdicts.mjs"], cwd=NODE, input=sent, text=True, timeout=120)
    return [Auth(verdict) for verdict in json.loads(said)]


# --- Where we are stricter -------------------------------------------------------------------------------------------


class Parsed:
    """A token read as leniently as it can be: any prefix, any encoding, any padding, NaN, lone surrogates."""

    def __init__(self, token: str) -> None:
        self.token = token
        parts = token.replace("Bearer ", "").split(".")[:2]
        self.segments = [urlsafe_b64decode(part.rstrip("=") + "==") for part in parts]
        self.header: dict[str, Any]
        self.claims: dict[str, Any]
        self.header, self.claims = map(json.loads, self.segments)

    @property
    def has_expired(self) -> bool:
        return int(self.claims.get("exp", NOW)) < NOW

    @property
    def other_times_are_good(self) -> bool:
        times = [self.claims.get(name, 0) for name in ("iat", "nbf")]
        return all(type(time) in {int, float} and time < 2_000_000_000 for time in times)


def _is_identifier(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= 128 and set(value) <= set(string.printable[:94])


def _is_utf8(segment: bytes) -> bool:
    return not segment.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")) and b"\0" not in segment


def _is_strict_json(segment: bytes) -> bool:
    """No NaN and Infinity, no number that a double cannot hold, no lone surrogate."""
    text = json.dumps(json.loads(segment), ensure_ascii=False)
    if any(0xD800 <= ord(character) <= 0xDFFF for character in text):
        return False
    try:
        json.loads(json.dumps(json.loads(segment, parse_int=float), allow_nan=False))
    except ValueError:
        return False
    return True


Rule = Callable[[Parsed], bool]
STRICTER: dict[str, Rule] = {
    "at most 8192 bytes": lambda it: len(it.token) > 8192,
    "Bearer is written once": lambda it: "Bearer " in it.token,
    "base64url without padding": lambda it: "=" in it.token,
    "JSON in UTF-8 without BOM": lambda it: not all(map(_is_utf8, it.segments)),
    "strict JSON": lambda it: not all(map(_is_strict_json, it.segments)),
    "kid is required, and a string": lambda it: not isinstance(it.header.get("kid"), str),
    "no crit, b64, jwk, jku, x5u, x5c": lambda it: (
        not it.header.keys().isdisjoint(("crit", "b64", "jwk", "jku", "x5u", "x5c"))
    ),
    "typ is JWT or absent": lambda it: it.header.get("typ", "JWT") != "JWT",
    "cat is a session's or absent": lambda it: it.header.get("cat", SESSION_CATEGORY) != SESSION_CATEGORY,
    "sub is an identifier": lambda it: not _is_identifier(it.claims.get("sub")),
    "sid is an identifier": lambda it: not _is_identifier(it.claims.get("sid")),
    "exp is required": lambda it: "exp" not in it.claims,
    "iat is required": lambda it: "iat" not in it.claims,
    "times are numbers": lambda it: any(isinstance(it.claims.get(name), str | bool) for name in ("exp", "iat", "nbf")),
    "iss is the configured one": lambda it: it.claims.get("iss") != ISSUER,
    "no expired token with a jti that is no string": lambda it: (
        it.has_expired and not isinstance(it.claims.get("jti", ""), str)
    ),
    "no expired token of another azp": lambda it: it.has_expired and it.claims.get("azp") != ORIGIN,
}
"""For each rule of README.md that Clerk's SDK does not have: does the token break it?"""


JAVASCRIPT_HAS = {
    "Bearer is written once",
    "typ is JWT or absent",
    "exp is required",
    "times are numbers",
    "iss is the configured one",
    "no expired token of another azp",
    "no expired token with a jti that is no string",
}
STRICTER_THAN_JAVASCRIPT: dict[str, Rule] = {
    name: STRICTER[name] for name in STRICTER if name not in JAVASCRIPT_HAS
} | {
    "jti is a string": lambda it: not isinstance(it.claims.get("jti", ""), str),
    "no expired token whose other times are wrong": lambda it: it.has_expired and not it.other_times_are_good,
    "no iat or nbf beyond the last date of JavaScript": lambda it: any(
        type(it.claims.get(name)) is int and it.claims[name] > 8.64e12 for name in ("iat", "nbf")
    ),
}
"""JavaScript's SDK looks at ``exp`` first, and takes a date that it cannot represent for a good one."""

# --- The tokens ------------------------------------------------------------------------------------------------------

Json = dict[str, Any]
ODD: tuple[Any, ...] = (..., None, "", "x", 0, 1, -1, 1.5, True, False, [], ["x"], {}, {"x": 1}, float("nan"))
PAST, FUTURE = NOW - 3600, 4_000_000_000

HEADER_VALUES: dict[str, tuple[Any, ...]] = {
    "alg": ("none", "None", "HS256", "RS512", "PS256", "rs256", *ODD),
    "kid": ("ins_other", "x" * 500, *ODD),
    "typ": ("jwt", "JWT ", "at+jwt", *ODD),
    "cat": ("cl_B7d4PD222AAA", "cl_B7d4PD333AAA", *ODD),
    "crit": (["exp"], ["b64"], *ODD),
    "b64": ODD,
    "jwk": ({"kty": "RSA"}, None),
    "jku": ("https://evil.example/jwks.json", None),
    "x5u": ("https://evil.example/chain.pem", None),
    "x5c": (["MIIB"], []),
    "x": (*ODD, "\ud800", float("inf"), 10**400),
}
_IDS = (*ODD, "x" * 128, "x" * 129, "a b", "ä", "\ud800", "a\n")
_TIMES = (*ODD, str(NOW), "soon", "٣", 10**20, 10**400, FUTURE, FUTURE + 0.5, NOW * 1000, PAST, PAST + 0.5)
CLAIM_VALUES: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("sub", "sid"), _IDS),
    **dict.fromkeys(("exp", "iat", "nbf"), _TIMES),
    "azp": ("https://evil.example", ORIGIN + "/", [ORIGIN], *ODD),
    "iss": ("https://evil.example", ISSUER + "/", [ISSUER], *ODD),
    "aud": (ORIGIN, [ORIGIN], *ODD),
    "jti": ODD,
    "v": (1, 2, 3, "2", *ODD),
    "o": ({"id": "org_1", "per": "a,b", "fpm": "1,2"}, *ODD),
    "fea": ("o:a,u:b", *ODD),
    "act": ({"sub": "user_admin"}, *ODD),
    **dict.fromkeys(("fva", "sts"), (...,)),
    "x": (*ODD, "ä\U0001f600", "\ud800", "x" * 7000, float("-inf"), 10**400),
}
"""By name, the odd values of members; ``...`` leaves one out."""
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1")
ALPHABET = string.ascii_letters + string.digits + "-_"


def encoded(rng: random.Random, members: Json) -> bytes:
    present = {name: value for name, value in members.items() if value is not ...}
    text = json.dumps(present, ensure_ascii=rng.random() < 0.8)
    encoding = "utf-8" if rng.random() < 0.9 else rng.choice(ENCODINGS)
    return text.encode(encoding, "surrogatepass" if encoding.startswith("utf") else "replace")


def damaged(rng: random.Random, token: str) -> str:
    """Some characters of a signed token changed, added or taken away."""
    place = rng.randrange(len(token))
    return rng.choice(
        [
            token[:place] + rng.choice(ALPHABET) + token[place + 1 :],
            token[:place] + token[place + 1 :],
            token[:place] + rng.choice(ALPHABET + ".=+/ \n\0ä") + token[place:],
            token[:-1] + rng.choice(ALPHABET),
            token + rng.choice(("=", "==", "A", ".", " ", "\n")),
            token[:place],
            token.swapcase(),
            rng.choice(("ak_", "mt_", "oat_", "m2m_", "Bearer ")) + token,
        ]
    )


def padded(segment: str) -> str:
    return segment + "=" * (-len(segment) % 4)


def random_token(rng: random.Random) -> str:
    """Valid, expired or changed in up to three ways; its times are far from every boundary."""
    head: Json = dict(header())
    body: Json = dict(claims(now=NOW - 600, exp=FUTURE))
    if rng.random() < 0.35:
        body["exp"] = rng.choice((PAST, PAST + 0.5, 0, -1))
    head |= {name: rng.choice(HEADER_VALUES[name]) for name in rng.sample([*HEADER_VALUES], rng.choice((0, 0, 1, 2)))}
    body |= {name: rng.choice(CLAIM_VALUES[name]) for name in rng.sample([*CLAIM_VALUES], rng.choice((0, 0, 1, 2)))}
    segments = [b64url(encoded(rng, head)), b64url(encoded(rng, body))]
    if rng.random() < 0.05:
        segments = [padded(segment) for segment in segments]
    signing_input = ".".join(segments)
    key = private_key("attacker") if rng.random() < 0.03 else private_key()
    token = f"{signing_input}.{b64url(sign(signing_input.encode(), key))}"
    return damaged(rng, token) if rng.random() < 0.15 else token


# --- The comparison --------------------------------------------------------------------------------------------------


def broken_rules(token: str, rules: Mapping[str, Rule]) -> list[str]:
    parsed = Parsed(token)
    return [name for name, breaks in rules.items() if breaks(parsed)]


def assert_each_difference_has_a_name(
    drawn: list[tuple[str, Auth]], theirs: list[Auth], stricter: Mapping[str, Rule], laxer: Rule
) -> None:
    alone: Counter[str] = Counter()
    for (token, ours), said in zip(drawn, theirs, strict=True):
        if ours != said and ours is not Auth.REJECTED:
            assert laxer(Parsed(token)), (token, ours, said)
        elif ours != said:
            broken = broken_rules(token, stricter)
            assert broken, (token, ours, said)
            alone.update(broken if len(broken) == 1 else ())
    assert {name for name in stricter if not alone[name]} == set(), "never the only reason: has Clerk's SDK it by now?"


async def tokens_and_ours() -> list[tuple[str, Auth]]:
    rng = random.Random(SEED)
    verifier = Verifier(PemKey(pem()), authorized_parties=[ORIGIN], issuers=[ISSUER])
    drawn = [random_token(rng) for _ in range(TOKENS)]
    return [(token, (await verifier.verify([token.encode()])).auth) for token in drawn]


async def test_every_disagreement_with_the_python_sdk_is_a_rule_of_ours() -> None:
    drawn = await tokens_and_ours()
    assert min(Counter(verdict for _, verdict in drawn).values()) >= 300, "too few of one kind"
    theirs = [clerks(token) for token, _ in drawn]
    assert_each_difference_has_a_name(drawn, theirs, STRICTER, lambda it: bool(it.claims.get("aud")))
    assert [token for token, ours in drawn if ours is not Auth.REJECTED and broken_rules(token, STRICTER)] == []


@pytest.mark.slow
async def test_every_disagreement_with_the_javascript_sdk_is_a_rule_of_ours() -> None:
    drawn = await tokens_and_ours()
    theirs = javascripts([token for token, _ in drawn])
    assert_each_difference_has_a_name(drawn, theirs, STRICTER_THAN_JAVASCRIPT, lambda _: False)

"""Hostile tokens through the real application. Whatever is sent: 200, one event, nothing leaked, nothing logged."""

import base64
import hashlib
import hmac
import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import respx
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from tests.conftest import OpenClient
from tests.support.lines import EventFile
from tests.support.signing import ISSUER, KID, b64url, claims, header, jwk, pem, private_key, sign, token_of

NOW = 1_700_000_000
# Valid until 2096, so that the tokens are the same in every process and run.
GOOD = claims(now=NOW) | {"exp": 4_000_000_000}
HEADER = header()
USER = "user_2xyzUVW"
ATTACKER = private_key("attacker")
SECRET_KEY = "sk_test_0123456789abcdef"


@dataclass(frozen=True)
class Vector:
    """What a request carries, and what its event says."""

    name: str
    headers: tuple[tuple[bytes, bytes], ...]
    auth: str = "rejected"
    reason: str | None = "token-invalid"

    @property
    def secrets(self) -> Iterator[bytes]:
        """Whatever may be a token: Authorization values and cookie values."""
        for name, value in self.headers:
            if name == b"authorization":
                yield value
            else:
                yield from (pair.partition(b"=")[2] for pair in value.split(b";"))


def carried(name: str, *tokens: str | bytes, auth: str = "rejected", reason: str | None = "token-invalid") -> Vector:
    """One Authorization header for each token."""
    raw = (token.encode() if isinstance(token, str) else token for token in tokens)
    return Vector(name, tuple((b"authorization", b"Bearer " + token) for token in raw), auth, reason)


def accepted(name: str, *tokens: str | bytes) -> Vector:
    return carried(name, *tokens, auth="verified", reason=None)


def outdated(name: str, *tokens: str | bytes) -> Vector:
    return carried(name, *tokens, auth="expired", reason="token-expired")


def shown(value: object) -> str:
    return repr(value)[:40]


# --- Building blocks -------------------------------------------------------------------------------------------------


def raw(members: dict[str, Any], changes: dict[str, Any] | bytes) -> bytes:
    """JSON with other members, of which ``...`` leaves one out; bytes are taken as they are."""
    if isinstance(changes, bytes):
        return changes
    return json.dumps({name: value for name, value in (members | changes).items() if value is not ...}).encode()


def spliced(members: dict[str, Any], name: str, text: str) -> bytes:
    """JSON with one more member, written as it is. Of two of one name the last counts, as in Clerk's SDK."""
    return f'{json.dumps(members)[:-1]}, "{name}": {text}}}'.encode()


def with_header(changes: dict[str, Any] | bytes, key: RSAPrivateKey | None = None) -> str:
    return token_of(raw(HEADER, changes), json.dumps(GOOD).encode(), key)


def with_claims(changes: dict[str, Any] | bytes, key: RSAPrivateKey | None = None) -> str:
    return token_of(json.dumps(HEADER).encode(), raw(GOOD, changes), key)


def good(**changes: Any) -> str:
    return with_claims(changes)


def forged(**changes: Any) -> str:
    return with_claims(changes, ATTACKER)


def signing_input(**changes: Any) -> str:
    return f"{b64url(raw(HEADER, changes))}.{b64url(json.dumps(GOOD).encode())}"


def over(segments: str) -> str:
    """The signature of Clerk's key over any two segments, put behind them."""
    return f"{segments}.{b64url(sign(segments.encode()))}"


def of_size(size: int) -> str:
    """A good token of exactly this many bytes: base64url comes in lengths that skip one in four, so both parts grow."""
    for spaces in range(3):
        head = json.dumps(HEADER) + " " * spaces
        rest = len(token_of(head.encode(), b""))
        body = json.dumps(GOOD | {"fill": "x" * ((size - rest) * 3 // 4 - len(json.dumps(GOOD | {"fill": ""})))})
        if rest + len(b64url(body.encode())) == size:
            return token_of(head.encode(), body.encode())
    raise AssertionError(f"no token has {size} bytes")


# --- The header ------------------------------------------------------------------------------------------------------


def algorithms() -> Iterator[Vector]:
    others: list[Any] = ["none", "nOnE", None, "", "rs256", "HS256", ["RS256"], 256, ...]
    for other in others:
        yield carried(f"alg {shown(other)} without a signature", f"{signing_input(alg=other)}.")
        yield carried(f"alg {shown(other)} with a good signature", with_header({"alg": other}))
    yield carried("good alg, no signature", f"{signing_input()}.", reason="token-invalid-signature")
    text = signing_input(alg="HS256")
    for secret in (pem(), pem().strip(), ""):
        mac = hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest()
        yield carried(f"HS256 with {shown(secret)} as the secret", f"{text}.{b64url(mac)}")
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    for alg, method, digest, reason in (
        ("RS512", padding.PKCS1v15(), hashes.SHA512(), "token-invalid"),
        ("PS256", pss, hashes.SHA256(), "token-invalid"),
        ("RS256", pss, hashes.SHA256(), "token-invalid-signature"),
    ):
        text = signing_input(alg=alg)
        signature = private_key().sign(text.encode(), method, digest)
        yield carried(f"{type(method).__name__} {digest.name} as {alg}", f"{text}.{b64url(signature)}", reason=reason)


def foreign_keys() -> Iterator[Vector]:
    yield carried("another key under the known kid", forged(), reason="token-invalid-signature")
    head, _, signature = good().split(".")
    whole = base64.urlsafe_b64decode(signature + "==")
    for other in (b"", sign(b"a.b"), whole[:-1], whole + b"\0", bytes(256), b"\xff" * 256):
        text = f"{signing_input()}.{b64url(other)}"
        yield carried(f"signature {shown(other)}", text, reason="token-invalid-signature")
    text = f"{head}.{b64url(raw(GOOD, {'sub': 'user_admin'}))}.{signature}"
    yield carried("other claims under a good signature", text, reason="token-invalid-signature")


ANY_KID = ["", "x" * 4000, KID + "\x00", "\x1b[31m\r\n", "ä", "../../etc/passwd"]


def key_ids() -> Iterator[Vector]:
    """With ``CLERK_JWT_KEY``, which verifies any ``kid`` that is one."""
    for odd in (None, 5, [KID], ...):
        yield carried(f"kid {shown(odd)}", with_header({"kid": odd}))
    for kid in ANY_KID:
        yield accepted(f"kid {shown(kid)}", with_header({"kid": kid}))
        text = with_header({"kid": kid}, ATTACKER)
        yield carried(f"kid {shown(kid)}, another key", text, reason="token-invalid-signature")


def other_parameters() -> Iterator[Vector]:
    attackers = jwk(key=ATTACKER)
    parameters: dict[str, list[Any]] = {
        "crit": [None, [], ["exp"]],
        "b64": [None, False, True],
        "jwk": [None, attackers, jwk()],
        "jku": [None, "https://evil.example/jwks.json"],
        "x5u": [None, "https://evil.example/chain.pem"],
        "x5c": [None, ["MIIB"]],
        "typ": ["at+jwt", "jwt", None, ["JWT"]],
        "cat": ["cl_B7d4PD222AAA", HEADER["cat"].lower(), None, [HEADER["cat"]]],
    }
    for name, values in parameters.items():
        for value in values:
            reason = "token-category-not-supported" if name == "cat" else "token-invalid"
            yield carried(f"{name} {shown(value)}", with_header({name: value}), reason=reason)
    yield carried("signed by the key in its jwk", with_header({"jwk": attackers}, ATTACKER))
    yield accepted("an unknown member", with_header({"x": "y", "zip": "DEF", "x5t": "abc"}))
    yield accepted("typ and cat missing", with_header({"typ": ..., "cat": ...}))


# --- The form --------------------------------------------------------------------------------------------------------


def encodings() -> Iterator[Vector]:
    """``test_verifier.py`` has the ends of a part."""
    whole = good()
    start, _, signature = whole.rpartition(".")
    head, body = start.split(".")
    for added in ("=", "===", "A===", "%3D"):
        yield carried(f"{added} after the header", over(f"{head}{added}.{body}"))
        yield carried(f"{added} after the payload", over(f"{head}.{body}{added}"))
        yield carried(f"{added} after the signature", f"{whole}{added}")
    odd = b64url(raw(GOOD, {"odd": "???>>>~~~"}))
    assert {"-", "_"} & set(odd)
    yield accepted("the URL alphabet", over(f"{head}.{odd}"))
    yield carried("the standard alphabet", over(f"{head}.{odd.replace('-', '+').replace('_', '/')}"))
    for blank in (" ", "\t", "\r\n", "\0"):
        yield carried(f"{blank!r} inside the payload, signed", over(f"{head}.{body[:10]}{blank}{body[10:]}"))
        yield carried(f"{blank!r} inside the signature", f"{start}.{signature[:9]}{blank}{signature[9:]}")
        around = accepted if blank in " \t" else carried
        yield around(f"{blank!r} around", f"{blank}{whole}{blank}")


def parts() -> Iterator[Vector]:
    for text in ("{}", "Bearer", ".", "..", "...", "a.b", "a.b.c", "a.."):
        yield carried(f"just {text}", text)
    whole = good()
    head, body, signature = whole.split(".")
    for text in (
        *(head, f"{head}.{body}", f"{whole}.{signature}", f"{head}.{body}.{body}.{body}.{signature}"),
        *(f".{body}.{signature}", f".{whole}", f"{whole}.", f"{whole}{whole}", f'"{whole}"', f"Bearer {whole}"),
        json.dumps({"protected": head, "payload": body, "signature": signature}),
    ):
        yield carried(f"{text.count('.') + 1} parts, {len(text)} bytes", text)
    yield carried("no payload", f"{head}..{signature}", reason="token-invalid-signature")


def sizes() -> Iterator[Vector]:
    yield accepted("8192 bytes", of_size(8192))
    for text in (of_size(8193), of_size(1 << 20), "." * (1 << 20), "ak_" + "x" * 8192):
        yield carried(f"{len(text)} bytes of {text[:3]}", text, reason="token-too-large")
    yield carried("8192 dots", "." * 8192)


def machine_tokens() -> Iterator[Vector]:
    for prefix in ("ak_", "oat_", "m2m_", "mt_"):
        for rest in ("", "9f8e7d6c5b4a39281706f5e4d3c2b1a0", "\xff", good()):
            yield carried(f"{prefix}{rest[:5]!a}", prefix + rest, reason="token-type-not-supported")
    yield carried("AK_ is no prefix of Clerk's", "AK_9f8e7d6c5b4a39281706")


def bytes_that_are_not_ascii() -> Iterator[Vector]:
    whole = good().encode()
    for text in (
        *(b"\xff" * 20, b"\xc3.\x28.\xa0", b"\x00", bytes(range(1, 256)), b"\xa0" + whole, b"\xef\xbb\xbf" + whole),
        *(whole + b"\xe4", whole.replace(b".", "\uff0e".encode()), whole.decode().encode("utf-16")),
    ):
        yield carried(f"bytes {shown(text)}", text)


# --- JSON ------------------------------------------------------------------------------------------------------------


def json_texts() -> Iterator[Vector]:
    for encoding in ("utf-16", "utf-16-le", "utf-32", "utf-8-sig"):
        yield carried(f"header in {encoding}", with_header(json.dumps(HEADER).encode(encoding)))
        yield carried(f"payload in {encoding}", with_claims(json.dumps(GOOD).encode(encoding)))
    for text in ("[]", "5", "null", "", "{", "{}", "{}{}", '{"a": 1,}', "\0", "[" * 2500):
        yield carried(f"payload {text[:9]!a}", with_claims(text.encode()))
        yield carried(f"header {text[:9]!a}", with_header(text.encode()))
    for depth, opening, closing in ((1500, "[", "]"), (900, '{"a":', "}"), (2500, "[", "")):
        text = f"{opening * depth}{'1' if closing else ''}{closing * depth}"
        expected = accepted if depth == 900 else carried
        yield expected(f"{depth} times {opening} in the payload", with_claims(spliced(GOOD, "deep", text)))
        yield expected(f"{depth} times {opening} in the header", with_header(spliced(HEADER, "deep", text)))
    for text in (r'"\ud800"', r'"\udc00\ud800"', '"\t"', '"\x00"', '"\\x41"', '"\\u12"'):
        yield carried(f"string {text!a} as sub", with_claims(spliced(GOOD, "sub", text)))
        yield carried(f"string {text!a} in the header", with_header(spliced(HEADER, "odd", text)))
    for text in ("NaN", "-Infinity", "1e400", "1" + "0" * 400, "9" * 5000, "01", "+1", ".5", "0x10"):
        yield carried(f"number {text[:10]} in a claim", with_claims(spliced(GOOD, "odd", text)))
    for text in (r'"\ud83d\ude00"', r'"\u0000"', "1e308", "1" + "0" * 300, str(2**64), "-0", "1E-400"):
        yield accepted(f"{text[:10]} in a claim", with_claims(spliced(GOOD, "odd", text)))
    for name, first, last in (("sub", 5, USER), ("alg", "none", "RS256")):
        made, members = (with_claims, GOOD) if name == "sub" else (with_header, HEADER)
        yield accepted(f"{name} twice, the last good", made(spliced(members | {name: first}, name, json.dumps(last))))
        yield carried(f"{name} twice, the first good", made(spliced(members, name, json.dumps(first))))
    for bad in (b"\xed\xa0\x80", b"\xc0\xaf", b"\xff"):
        yield carried(f"bytes {bad!r} in a claim", with_claims(spliced(GOOD, "odd", '"?"').replace(b"?", bad)))


# --- Claims ----------------------------------------------------------------------------------------------------------


def times() -> Iterator[Vector]:
    for name in ("exp", "iat", "nbf"):
        for text in ('"1700000000"', "true", "null", "[1]", "NaN", "Infinity", "-1e400", "1" + "0" * 400):
            yield carried(f"{name} {text[:20]}", with_claims(spliced(GOOD, name, text)))
        yield accepted(f"{name} as a float", good(**{name: GOOD[name] + 0.5}))
    for past in (0, -1, -0.0, -1e308, -(10**30), NOW - 3600):
        yield outdated(f"exp {past}", good(exp=past))
    yield accepted("iat hugely negative", good(iat=-1e308))
    for future in (NOW * 1000, 1e308, 2**64, 10**30):
        yield accepted(f"exp {future}", good(exp=future))
        yield carried(f"iat {future}", good(iat=future), reason="token-iat-in-the-future")
        yield carried(f"nbf {future}", good(nbf=future), reason="token-not-active-yet")


def other_claims() -> Iterator[Vector]:
    for name in ("exp", "iat"):
        yield carried(f"{name} missing", good(**{name: ...}))
    yield accepted("what is not needed missing", good(**dict.fromkeys(("nbf", "jti", "v", "fva", "sts"), ...)))
    odd: list[Any] = [None, 5, True, [], ["x"], {}]
    for value in odd:
        yield carried(f"jti {shown(value)}", good(jti=value))
    for value in (*odd, "x" * 500, "\r\n", {"id": 5, "sub": []}, {"id": "\n", "sub": "\0"}):
        free = dict.fromkeys(("aud", "o", "act", "fea", "v", "org_id", "fva", "pla"), value)
        yield accepted(f"odd free-form claims {shown(value)}", good(**free))


# --- The request around it -------------------------------------------------------------------------------------------


def several_headers() -> Iterator[Vector]:
    yield accepted("two headers, the last good", forged(), good())
    yield accepted("two headers, the first good", good(), forged())
    yield outdated("two headers, one expired", "rubbish", good(exp=1))
    yield carried("two headers, none good", forged(), "rubbish", reason="token-invalid-signature")
    yield accepted("two Bearers in one header", f"{forged()}, Bearer {good()}")
    for scheme in (b"Basic ", b"DPoP ", b"", b"Bearer", b"Bearer\t"):
        headers = ((b"authorization", scheme + good().encode()),)
        yield Vector(f"scheme {scheme!r}", headers, "absent", "session-token-missing")


def cookies() -> Iterator[Vector]:
    def sent(name: str, *headers: str, auth: str = "rejected", reason: str | None = "token-invalid") -> Vector:
        return Vector(name, tuple((b"cookie", header.encode()) for header in headers), auth, reason)

    yield sent("a forged cookie", f"__session={forged()}", reason="token-invalid-signature")
    yield sent("an expired cookie", f"__session={good(exp=1)}", auth="expired", reason="token-expired")
    yield sent("a huge cookie", f"__session={'x' * 100_000}", reason="token-too-large")
    yield sent("a machine token", "__session=ak_9f8e7d6c5b4a3928", reason="token-type-not-supported")
    yield sent("an injected name", f"__session_\r\nx={good()}", auth="absent", reason="session-token-missing")
    many = "; ".join(f"__session_{number}=value-of-a-cookie-{number}" for number in range(200))
    ours = f"__session={good()}"
    for beside in (f"__session_a={forged()}", f"__session={good(exp=1)}", f"__session_a={'x' * 100_000}", "a=\0", many):
        for headers in ([f"{beside}; {ours}"], [f"{ours}; {beside}"], [beside, ours]):
            yield sent(f"{shown(beside)} beside a good one", *headers, auth="verified", reason=None)


KINDS = {
    kind.__name__: [*kind()]
    for kind in (
        *(algorithms, foreign_keys, key_ids, other_parameters),
        *(encodings, parts, sizes, machine_tokens, bytes_that_are_not_ascii),
        *(json_texts, times, other_claims),
        *(several_headers, cookies),
    )
}
VECTORS = [vector for vectors in KINDS.values() for vector in vectors]
A_FEW = [
    vector
    for reason in dict.fromkeys(vector.reason for vector in VECTORS)
    for vector in [other for other in VECTORS if other.reason == reason][:20]
]
"""At most 20 for each reason."""


@pytest.mark.parametrize("kind", KINDS)
async def test_a_hostile_token_gets_200_and_one_honest_event(
    kind: str, open_client: OpenClient, events: EventFile, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="service")
    async with open_client(clerk_issuer=ISSUER) as client:
        caplog.clear()
        for vector in KINDS[kind]:
            await assert_honest(vector, client, events)
            assert caplog.records == [], vector.name


async def assert_honest(vector: Vector, client: httpx.AsyncClient, events: EventFile) -> None:
    response = await client.delete("/v1/auth/session", headers=list(vector.headers))
    line = json.dumps(event := events.one()).encode()
    assert (response.status_code, response.json()["recorded"]) == (200, True), vector.name
    known = vector.auth in {"verified", "expired"}
    assert {name: event[name] for name in ("auth", "reason", "user_id", "session_id", "org_id", "actor_id")} == {
        "auth": vector.auth,
        "reason": vector.reason,
        "user_id": USER if known else None,
        "session_id": GOOD["sid"] if known else None,
        "org_id": None,
        "actor_id": None,
    }, vector.name
    out = b"\n".join([line, response.content, *(value for pair in response.headers.raw for value in pair)])
    assert (USER.encode() in out) is known, vector.name
    assert_nothing_of(vector.secrets, out)


def assert_nothing_of(secrets: Iterable[bytes], out: bytes, run: int = 12) -> None:
    """No twelve bytes in a row of what was sent come out again."""
    came_out = {out[start : start + run] for start in range(len(out) - run + 1)}
    for secret in secrets:
        assert not came_out.intersection(secret[start : start + run] for start in range(len(secret) - run + 1))


# --- The same with the keys that Clerk publishes ---------------------------------------------------------------------


def ring_vectors() -> Iterator[Vector]:
    yield accepted("the known kid", good())
    yield carried("another key under the known kid", forged(), reason="token-invalid-signature")
    yield carried(
        "the first unknown kid, for which keys are fetched", with_header({"kid": "x"}), reason="jwk-kid-mismatch"
    )
    for kid in ANY_KID:
        text = with_header({"kid": kid}, ATTACKER)
        yield carried(f"kid {shown(kid)}", text, auth="unverifiable", reason="jwk-failed-to-load")
    for own in ({"jwk": jwk(key=ATTACKER)}, {"jku": "https://evil.example/jwks.json"}):
        yield carried(f"signed by a key in its {[*own]}", with_header(own, ATTACKER))


async def test_the_key_ring_takes_its_own_kids_only(
    open_client: OpenClient, events: EventFile, caplog: pytest.LogCaptureFixture
) -> None:
    """Any other request than the one for the JWKS, as to a ``jku``, fails the test."""
    with respx.mock:
        respx.get("https://api.clerk.com/v1/jwks").respond(json={"keys": [jwk()]})
        async with open_client(clerk_jwt_key=None, clerk_secret_key=SECRET_KEY, clerk_issuer=ISSUER) as client:
            for vector in ring_vectors():
                await assert_honest(vector, client, events)
                assert caplog.records == [], vector.name

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
AUTH = {
    None: "verified",
    "token-expired": "expired",
    "session-token-missing": "absent",
    "jwk-failed-to-load": "unverifiable",
}
"""By reason; any other is ``rejected``."""


@dataclass(frozen=True)
class Vector:
    """What a request carries, and what its event says."""

    name: str
    headers: list[tuple[bytes, bytes]]
    reason: str | None = "token-invalid"

    @property
    def auth(self) -> str:
        return AUTH.get(self.reason, "rejected")

    @property
    def secrets(self) -> Iterator[bytes]:
        """Whatever may be a token: Authorization values and cookie values."""
        for name, value in self.headers:
            if name == b"authorization":
                yield value
            else:
                yield from (pair.partition(b"=")[2] for pair in value.split(b";"))


def carried(name: str, *tokens: str | bytes, reason: str | None = "token-invalid") -> Vector:
    """One Authorization header for each token."""
    raw = (token.encode() if isinstance(token, str) else token for token in tokens)
    return Vector(name, [(b"authorization", b"Bearer " + token) for token in raw], reason)


def accepted(name: str, *tokens: str | bytes) -> Vector:
    return carried(name, *tokens, reason=None)


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
    yield carried("signed by the key in its jwk", with_header({"jwk": jwk(key=ATTACKER)}, ATTACKER))


ANY_KID = ["", "x" * 4000, KID + "\x00", "\x1b[31m\r\n", "ä", "../../etc/passwd"]


def key_ids() -> Iterator[Vector]:
    """With ``CLERK_JWT_KEY``, which verifies any ``kid`` that is one."""
    for kid in ANY_KID:
        yield accepted(f"kid {shown(kid)}", with_header({"kid": kid}))
        text = with_header({"kid": kid}, ATTACKER)
        yield carried(f"kid {shown(kid)}, another key", text, reason="token-invalid-signature")


# --- The form --------------------------------------------------------------------------------------------------------


def encodings() -> Iterator[Vector]:
    head, body, signature = good().split(".")
    odd = b64url(raw(GOOD, {"odd": "???>>>~~~"}))
    assert {"-", "_"} & set(odd)
    yield accepted("the URL alphabet", over(f"{head}.{odd}"))
    yield carried("the standard alphabet", over(f"{head}.{odd.replace('-', '+').replace('_', '/')}"))
    for blank in (" ", "\t", "\r\n" * 2, "\0" * 4, "=", "===="):
        yield carried(f"{blank!r} inside the payload, signed", over(f"{head}.{body[:10]}{blank}{body[10:]}"))
        yield carried(f"{blank!r} inside the signature", f"{head}.{body}.{signature[:9]}{blank}{signature[9:]}")


def parts() -> Iterator[Vector]:
    whole = good()
    head, body, signature = whole.split(".")
    for text in (
        *("{}", "Bearer", ".", "..", "...", "a.b", "a.b.c", "a.."),
        *(head, f"{head}.{body}", f"{whole}.{signature}", f"{head}.{body}.{body}.{body}.{signature}"),
        *(f".{body}.{signature}", f".{whole}", f"{whole}.", f"{whole}{whole}", f'"{whole}"', f"Bearer {whole}"),
        json.dumps({"protected": head, "payload": body, "signature": signature}),
    ):
        yield carried(f"{text.count('.') + 1} parts, {len(text)} bytes", text)
    yield carried("no payload", f"{head}..{signature}", reason="token-invalid-signature")


def sizes() -> Iterator[Vector]:
    yield carried("8192 dots", "." * 8192)
    for text in ("." * 8193, good(fill="x" * (1 << 20)), "ak_" + "x" * 8192):
        yield carried(f"{len(text)} bytes of {text[:3]}", text, reason="token-too-large")


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
        for text in ("Infinity", "-1e400", "1" + "0" * 400):
            yield carried(f"{name} {text[:20]}", with_claims(spliced(GOOD, name, text)))
        yield accepted(f"{name} as a float", good(**{name: GOOD[name] + 0.5}))
    for past in (0, -0.0, -1e308, -(10**30)):
        yield carried(f"exp {past}", good(exp=past), reason="token-expired")
    yield accepted("iat hugely negative", good(iat=-1e308))
    for future in (1e308, 2**64, 10**30):
        yield accepted(f"exp {future}", good(exp=future))
        yield carried(f"iat {future}", good(iat=future), reason="token-iat-in-the-future")
        yield carried(f"nbf {future}", good(nbf=future), reason="token-not-active-yet")


def free_form_claims() -> Iterator[Vector]:
    odd: list[Any] = [None, 5, True, [], ["x"], {}, "x" * 500, "\r\n", {"id": 5, "sub": []}, {"id": "\n", "sub": "\0"}]
    for value in odd:
        free = dict.fromkeys(("aud", "o", "act", "fea", "v", "org_id", "fva", "pla"), value)
        yield accepted(f"odd free-form claims {shown(value)}", good(**free))


# --- The request around it -------------------------------------------------------------------------------------------


def cookies() -> Iterator[Vector]:
    def sent(name: str, *headers: str, reason: str | None) -> Vector:
        return Vector(name, [(b"cookie", header.encode()) for header in headers], reason)

    yield sent("a forged cookie", f"__session={forged()}", reason="token-invalid-signature")
    yield sent("an expired cookie", f"__session={good(exp=1)}", reason="token-expired")
    yield sent("a huge cookie", f"__session={'x' * 100_000}", reason="token-too-large")
    yield sent("a machine token", "__session=ak_9f8e7d6c5b4a3928", reason="token-type-not-supported")
    yield sent("an injected name", f"__session_\r\nx={good()}", reason="session-token-missing")
    many = "; ".join(f"__session_{number}=value-of-a-cookie-{number}" for number in range(200))
    ours = f"__session={good()}"
    for beside in (f"__session_a={forged()}", f"__session={good(exp=1)}", f"__session_a={'x' * 100_000}", "a=\0", many):
        for headers in ([f"{beside}; {ours}"], [f"{ours}; {beside}"], [beside, ours]):
            yield sent(f"{shown(beside)} beside a good one", *headers, reason=None)


KINDS = {
    kind.__name__: [*kind()]
    for kind in (
        *(algorithms, foreign_keys, key_ids, encodings, parts, sizes, machine_tokens, bytes_that_are_not_ascii),
        *(json_texts, times, free_form_claims, cookies),
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
    response = await client.delete("/v1/auth/session", headers=vector.headers)
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


async def test_the_key_ring_takes_its_own_kids_only(
    open_client: OpenClient, events: EventFile, caplog: pytest.LogCaptureFixture
) -> None:
    """Any other request than the one for the JWKS, as to a ``jku``, fails the test."""
    evil = {"kid": "x", "jku": "https://evil.example/jwks.json"}
    with respx.mock:
        respx.get("https://api.clerk.com/v1/jwks").respond(json={"keys": [jwk()]})
        async with open_client(clerk_jwt_key=None, clerk_secret_key="sk_test_0123456789abcdef") as client:
            for vector in (
                accepted("the known kid", good()),
                carried("signed by a key at its jku", with_header(evil, ATTACKER)),
                carried("the first unknown kid is fetched", with_header({"kid": "x"}), reason="jwk-kid-mismatch"),
                *(carried(kid, with_header({"kid": kid}, ATTACKER), reason="jwk-failed-to-load") for kid in ANY_KID),
            ):
                await assert_honest(vector, client, events)
    assert caplog.records == []

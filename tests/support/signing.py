"""Real keys and real signatures, made without the code under test: ``cryptography``, ``base64``, ``json``."""

import base64
import json
import time
from collections.abc import Mapping
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

KID = "ins_2clerkInstance"
ORIGIN = "https://app.example.com"
ISSUER = "https://clerk.example.com"
SESSION_CATEGORY = "cl_B7d4PD111AAA"


@cache
def private_key(name: str = "clerk", bits: int = 2048) -> rsa.RSAPrivateKey:
    """A key that is the same for the whole test run; another ``name`` is another key."""
    del name
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def pem(key: rsa.RSAPrivateKey | None = None) -> str:
    public = (key or private_key()).public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def jwk(kid: str = KID, key: rsa.RSAPrivateKey | None = None, **changes: Any) -> dict[str, Any]:
    """The public key as Clerk publishes it; ``changes`` of None leave a member out."""
    numbers = (key or private_key()).public_key().public_numbers()
    members: dict[str, Any] = {
        "use": "sig",
        "kty": "RSA",
        "kid": kid,
        "alg": "RS256",
        "n": b64url(numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big")),
        "e": b64url(numbers.e.to_bytes(3, "big")),
    }
    return {name: value for name, value in (members | changes).items() if value is not None}


def b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def header(**changes: Any) -> dict[str, Any]:
    """A session token's JOSE header; ``changes`` of None leave a member out."""
    members = {"alg": "RS256", "cat": SESSION_CATEGORY, "kid": KID, "typ": "JWT"}
    return {name: value for name, value in (members | changes).items() if value is not None}


def claims(*, now: float | None = None, **changes: Any) -> dict[str, Any]:
    """The claims of a session token v2, valid from now for 60 s; ``changes`` of None leave a claim out."""
    issued = int(time.time() if now is None else now)
    members: dict[str, Any] = {
        "azp": ORIGIN,
        "exp": issued + 60,
        "fva": [3, -1],
        "iat": issued,
        "iss": ISSUER,
        "jti": "5f3c1d8e2a7b9c4d6e0f",
        "nbf": issued - 10,
        "sid": "sess_2abcDEF",
        "sts": "active",
        "sub": "user_2xyzUVW",
        "v": 2,
    }
    return {name: value for name, value in (members | changes).items() if value is not None}


def sign(signing_input: bytes, key: rsa.RSAPrivateKey | None = None) -> bytes:
    return (key or private_key()).sign(signing_input, padding.PKCS1v15(), hashes.SHA256())


def token_of(raw_header: bytes, raw_payload: bytes, key: rsa.RSAPrivateKey | None = None) -> str:
    """A compact JWS over any bytes, with a good signature."""
    signing_input = f"{b64url(raw_header)}.{b64url(raw_payload)}"
    return f"{signing_input}.{b64url(sign(signing_input.encode(), key))}"


def token(
    of: Mapping[str, Any] | None = None, *, head: Mapping[str, Any] | None = None, key: rsa.RSAPrivateKey | None = None
) -> str:
    """A session token: valid unless something else is asked for."""
    return token_of(
        json.dumps(header() if head is None else dict(head)).encode(),
        json.dumps(claims() if of is None else dict(of)).encode(),
        key,
    )

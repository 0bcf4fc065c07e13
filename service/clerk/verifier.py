"""Verifies session tokens, in the order of checks that README.md lists.

The algorithm is fixed and only ``kid`` is taken from a token's header, so no JOSE library is needed: what those make of
a hostile header (``crit: null``, a list as ``alg``) is not a verdict, and each check would have to be repeated here.
"""

import binascii
import logging
import re
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeGuard, cast

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from service.clerk.credentials import MAX_TOKEN_BYTES
from service.clerk.errors import KeysUnavailableError, KeyUnknownError
from service.clerk.keys import Keys
from service.clerk.verdict import ABSENT, Auth, Finding, Identity, Reason, Verdict, better
from service.telemetry.diagnostics import where

logger = logging.getLogger("service.verifier")

LEEWAY = 5
"""Seconds by which clocks may differ, as in Clerk's SDKs."""
KEY_TIMEOUT = 0.25
"""Seconds that one request may wait for keys, for all of its tokens together."""

SESSION_CATEGORY = "cl_B7d4PD111AAA"
"""Clerk's ``cat`` of session tokens; JWT templates and machine tokens are signed with the same key."""
_MACHINE_TOKENS = (b"ak_", b"oat_", b"m2m_", b"mt_")
_FORBIDDEN_PARAMETERS = ("crit", "b64", "jwk", "jku", "x5u", "x5c")
_CACHED_HEADERS = 64
"""Tokens signed with the same key have the same header, byte for byte."""

_BASE64URL_TO_BASE64 = bytes.maketrans(b"-_+/=", b"+/***")
"""Maps what base64url does not allow to what base64 does not allow either."""
_LAST_CHARACTERS = {1: b"", 2: b"AQgw", 3: b"AEIMQUYcgkosw048"}
"""How a part may end, by its length modulo 4: with characters whose unused bits are 0."""

_RS256 = PKCS1v15(), SHA256()
"""RFC 7518, section 3.3."""
_BAD_SIGNATURE = Verdict(
    Auth.REJECTED,
    Reason.TOKEN_INVALID_SIGNATURE,
    None,
    Finding("signature", "an RS256 signature by that key", "one that this key does not verify"),
)
_matches_identifier = re.compile(r"[!-~]{1,128}").fullmatch

VerifyOne = Callable[[bytes, float], Awaitable[Verdict]]
"""Gives the verdict on a token; waits for a key until a time of ``time.monotonic()``."""


def longest_lifetime(identity: Identity) -> int:
    """Return for how many seconds a token that Clerk issues now for the same session can be valid, leeway included."""
    return identity.expires_at - identity.issued_at + 2 * LEEWAY


async def best_verdict(
    tokens: Sequence[bytes], verify_one: VerifyOne, accept: Callable[[Identity], Awaitable[bool]] | None = None
) -> Verdict:
    """Return the best verdict on the tokens of one request; ``ABSENT`` without any.

    Args:
        tokens: as sent. The first one that is verified and accepted ends the search.
        verify_one: gives the verdict on each.
        accept: says whether whom a verified token names is accepted; without it, everyone is.
    """
    best, deadline = ABSENT, time.monotonic() + KEY_TIMEOUT
    for token in tokens:
        verdict = await verify_one(token, deadline)
        if verdict.auth is Auth.VERIFIED and (accept is None or await accept(cast("Identity", verdict.identity))):
            return verdict
        best = better(best, verdict)
    return best


class _CheckFailedError(Exception):
    """The token fails a check. Never leaves this module."""

    def __init__(self, reason: Reason, check: str, expected: str, found: object, auth: Auth = Auth.REJECTED) -> None:
        self.verdict = Verdict(auth, reason, None, Finding(check, expected, found))


class Verifier:
    """Verifies session tokens of one Clerk instance. Stateless; never raises because of a token.

    Args:
        keys: the instance's public keys.
        authorized_parties: the allowed ``azp``; empty allows any.
        issuer: the allowed ``iss``; None allows any.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        keys: Keys,
        *,
        authorized_parties: Sequence[str] = (),
        issuer: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._authorized_parties = frozenset(authorized_parties)
        self._issuer = issuer
        self._clock = clock

    def verify(self, tokens: Sequence[bytes]) -> Coroutine[Any, Any, Verdict]:
        """Return the best verdict on the tokens of one request; ``ABSENT`` without any."""
        return best_verdict(tokens, self.verify_one)

    async def verify_one(self, token: bytes, deadline: float) -> Verdict:
        """Return the verdict on one token.

        Args:
            token: as sent.
            deadline: until when to wait for a key, by ``time.monotonic()``.
        """
        try:
            signing_input, header, payload, signature = _split(token)
            kid = _checked_header(header)
            key = self._keys.key_at_hand(kid) or await self._wait_for_key(kid, deadline)
            try:
                key.verify(signature, signing_input, *_RS256)
            except InvalidSignature:
                return _BAD_SIGNATURE
            return self._check_claims(_json_object(payload, "payload"))
        except _CheckFailedError as failure:
            return failure.verdict
        except Exception as error:  # noqa: BLE001 - a token that breaks a library is invalid, and a bug of ours
            logger.error("verification failed unexpectedly: %s", where(error))  # noqa: TRY400 - see where()
            return Verdict(Auth.REJECTED, Reason.TOKEN_INVALID)

    async def _wait_for_key(self, kid: str, deadline: float) -> RSAPublicKey:
        try:
            return await self._keys.key_for(kid, max(0.0, deadline - time.monotonic()))
        except KeyUnknownError:
            expected = "the kid of a key that this Clerk instance publishes"
            raise _CheckFailedError(Reason.JWK_KID_MISMATCH, "key id", expected, kid) from None
        except KeysUnavailableError:
            raise _CheckFailedError(
                Reason.JWK_FAILED_TO_LOAD, "key id", "keys from Clerk", "none in time", Auth.UNVERIFIABLE
            ) from None

    def _check_claims(self, claims: dict[str, Any]) -> Verdict:
        """Check claims whose signature is good."""
        for name in ("sub", "sid"):
            if not _is_identifier(claims.get(name)):
                raise _invalid(name, "a string of 1-128 visible ASCII characters", claims.get(name))
        if not isinstance(claims.get("jti", ""), str):
            raise _invalid("jti", "a string, or none", claims["jti"])
        expires, issued, not_before = _times(claims)
        if "aud" in claims:
            raise _invalid("aud", "none: Clerk's session tokens have no audience", claims["aud"])
        azp, iss, now = claims.get("azp"), claims.get("iss"), self._clock()
        if self._authorized_parties and not (isinstance(azp, str) and azp in self._authorized_parties):
            expected = "an origin in CLERK_AUTHORIZED_PARTIES"
            raise _CheckFailedError(Reason.TOKEN_INVALID_AUTHORIZED_PARTIES, "azp", expected, azp)
        if self._issuer is not None and iss != self._issuer:
            raise _CheckFailedError(Reason.TOKEN_INVALID_ISSUER, "iss", self._issuer, iss)
        if issued > now + LEEWAY:
            raise _too_early(Reason.TOKEN_IAT_IN_THE_FUTURE, "iat", issued - now)
        if not_before > now + LEEWAY:
            raise _too_early(Reason.TOKEN_NOT_ACTIVE_YET, "nbf", not_before - now)
        identity = _identity(claims, issued, expires)
        if expires <= now - LEEWAY:
            finding = Finding("exp", f"at most {LEEWAY} s behind our clock", f"{now - expires:.0f} s behind")
            return Verdict(Auth.EXPIRED, Reason.TOKEN_EXPIRED, identity, finding)
        return Verdict(Auth.VERIFIED, None, identity)


def _invalid(check: str, expected: str, found: object) -> _CheckFailedError:
    return _CheckFailedError(Reason.TOKEN_INVALID, check, expected, found)


def _too_early(reason: Reason, check: str, seconds: float) -> _CheckFailedError:
    return _CheckFailedError(reason, check, f"at most {LEEWAY} s ahead of our clock", f"{seconds:.0f} s ahead")


def _split(token: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """Return signing input, encoded header, payload and signature of a compact JWS (RFC 7515, section 7.1)."""
    if len(token) > MAX_TOKEN_BYTES:
        expected = f"at most {MAX_TOKEN_BYTES} bytes"
        raise _CheckFailedError(Reason.TOKEN_TOO_LARGE, "size", expected, f"{len(token)} bytes")
    if token.startswith(_MACHINE_TOKENS):
        found = "a machine token, OAuth token or API key"
        raise _CheckFailedError(Reason.TOKEN_TYPE_NOT_SUPPORTED, "token type", "a session token", found)
    signing_input, _, signature = token.rpartition(b".")
    header, dot, payload = signing_input.partition(b".")
    if not dot or b"." in payload:
        raise _invalid("form", "three parts with dots between them", f"{token.count(b'.') + 1} parts")
    return signing_input, header, _decoded(payload), _decoded(signature)


def _decoded(part: bytes) -> bytes:
    """Decode canonical base64url: only its alphabet, no padding, unused bits 0 (RFC 4648, sections 3.3 and 3.5)."""
    length = len(part) % 4
    try:
        if length and part[-1] not in _LAST_CHARACTERS[length]:
            raise binascii.Error
        return binascii.a2b_base64(part.translate(_BASE64URL_TO_BASE64) + b"=" * (-length % 4), strict_mode=True)
    except binascii.Error:
        expected = "base64url without padding (RFC 7515, section 2) in each part"
        raise _invalid("form", expected, "something else") from None


def _json_object(raw: bytes, check: str) -> dict[str, Any]:
    """Parse strict JSON (RFC 8259) in UTF-8: no NaN, byte order mark or lone surrogate, bounded depth."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise _invalid(check, "a JSON object in UTF-8", "something else")
    return value


@lru_cache(_CACHED_HEADERS)
def _checked_header(part: bytes) -> str:
    """Check the JOSE header and return its ``kid``. Failures are not cached."""
    header = _json_object(_decoded(part), "header")
    if header.get("alg") != "RS256":
        raise _invalid("alg", "RS256", header.get("alg"))
    kid = header.get("kid")
    if not isinstance(kid, str):
        raise _invalid("kid", "a string", kid)
    for name in _FORBIDDEN_PARAMETERS:
        if name in header:
            raise _invalid(name, "not in the header", header[name])
    if header.get("typ", "JWT") != "JWT":
        raise _invalid("typ", "JWT, or none", header["typ"])
    category = header.get("cat", SESSION_CATEGORY)
    if category != SESSION_CATEGORY:
        expected = f"{SESSION_CATEGORY} (a session token), or none"
        raise _CheckFailedError(Reason.TOKEN_CATEGORY_NOT_SUPPORTED, "cat", expected, category)
    return kid


def _times(claims: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return ``exp``, ``iat`` and ``nbf`` in whole seconds since 1970, cut off as by the PyJWT of Clerk's SDK."""
    expires, issued, not_before = claims.get("exp"), claims.get("iat"), claims.get("nbf", 0)
    if type(expires) is type(issued) is type(not_before) is int:
        return expires, issued, not_before
    return _whole("exp", expires), _whole("iat", issued), _whole("nbf", not_before)


def _whole(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _invalid(name, "a number of seconds since 1970", value)
    return int(value)


def _identity(claims: Mapping[str, Any], issued: int, expires: int) -> Identity:
    """Return whom the claims name. ``sub`` and ``sid`` are checked already; of the rest, odd values are left out."""
    is_v2 = claims.get("v") == 2  # noqa: PLR2004 - Clerk's token version
    org_id = _member(claims.get("o"), "id") if is_v2 else _member(claims, "org_id")
    actor_id = _member(claims.get("act"), "sub")
    return Identity(claims["sub"], claims["sid"], org_id, actor_id, issued, expires, _factor_ages(claims.get("fva")))


def _factor_ages(value: object) -> tuple[int, int] | None:
    if not isinstance(value, list) or len(value) != 2:  # noqa: PLR2004 - first and second factor
        return None
    first, second = value
    # -1 means never; not isinstance: bool is an int.
    return (first, second) if type(first) is type(second) is int and first >= -1 and second >= -1 else None


def _member(value: object, name: str) -> str | None:
    """Return an object's member if it is an identifier."""
    if not isinstance(value, dict):
        return None
    member = value.get(name)
    return member if _is_identifier(member) else None


def _is_identifier(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and _matches_identifier(value) is not None

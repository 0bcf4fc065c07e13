"""Says who a session token belongs to, in the order of checks that README.md lists.

Every check is ours to name in the verdict; the signature itself is cryptography's to judge. There is one algorithm, so
nothing that a token's header says chooses any, and no library for JOSE is asked: what those do on hostile headers
(``crit: null``, a list as ``alg``) is not a verdict, and ours would be repeated.
"""

import binascii
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

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
PATIENCE = 0.25
"""Seconds that one request may wait for keys, over all the tokens it carries."""

SESSION_CATEGORY = "cl_B7d4PD111AAA"
"""Clerk's ``cat`` of session tokens; JWT templates and machine tokens are signed with the same key."""
_MACHINE_TOKENS = (b"ak_", b"oat_", b"m2m_", b"mt_")
_FORBIDDEN_PARAMETERS = ("crit", "b64", "jwk", "jku", "x5u", "x5c")

_HEADERS_REMEMBERED = 64
"""All tokens of a key have the same header, byte for byte."""

_BASE64URL_TO_BASE64 = bytes.maketrans(b"-_+/=", b"+/***")
"""What base64url does not have becomes what base64 does not have either."""
_LAST_CHARACTERS = {1: b"", 2: b"AQgw", 3: b"AEIMQUYcgkosw048"}
"""In which a part can end whose length is so much over a multiple of 4: those whose last 6, 4 or 2 bits are 0."""

_RS256 = PKCS1v15(), SHA256()
"""RFC 7518, section 3.3."""
_BAD_SIGNATURE = Verdict(
    Auth.REJECTED,
    Reason.TOKEN_INVALID_SIGNATURE,
    finding=Finding("signature", "an RS256 signature by that key", "one that this key does not verify"),
)
_identifier = re.compile(r"[!-~]{1,128}").fullmatch


def longest_lifetime(identity: Identity) -> int:
    """Give how many seconds a token of the same session that Clerk made just now can pass, whatever the clocks say."""
    return identity.expires_at - identity.issued_at + 2 * LEEWAY


class _CheckFailedError(Exception):
    """A check that the token does not pass. Never leaves this module."""

    def __init__(self, reason: Reason, check: str, expected: str, found: object, auth: Auth = Auth.REJECTED) -> None:
        self.verdict = Verdict(auth, reason, finding=Finding(check, expected, found))


class Verifier:
    """Verifies session tokens of one Clerk instance. Holds no state of its own and never raises on a token.

    Args:
        keys: gives the instance's public keys.
        authorized_parties: the allowed ``azp``; empty allows any.
        issuer: the one allowed ``iss``; None allows any.
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

    async def verify(self, tokens: Sequence[bytes]) -> Verdict:
        """Give the best verdict among the tokens that a request carries; without any, ``absent``."""
        best = ABSENT
        deadline = time.monotonic() + PATIENCE
        for token in tokens:
            verdict = await self._verdict_on(token, deadline)
            if verdict.auth is Auth.VERIFIED:
                return verdict
            best = better(best, verdict)
        return best

    async def verify_one(self, token: bytes, patience: float) -> Verdict:
        """Give the verdict on one token.

        Args:
            token: as it was sent.
            patience: seconds that the caller can wait for keys.
        """
        return await self._verdict_on(token, time.monotonic() + patience)

    async def _verdict_on(self, token: bytes, deadline: float) -> Verdict:
        try:
            signing_input, header, payload, signature = _parts(token)
            kid = _checked_header(header)
            if (key := self._keys.key_at_hand(kid)) is None:
                key = await self._key_in_time(kid, max(0.0, deadline - time.monotonic()))
            try:
                key.verify(signature, signing_input, *_RS256)
            except InvalidSignature:
                return _BAD_SIGNATURE
            return self._judge_claims(_json_object(payload, "payload"))
        except _CheckFailedError as failure:
            return failure.verdict
        except Exception as error:  # noqa: BLE001 - a token that breaks a library is an invalid token, and a bug of ours
            logger.error("verification failed unexpectedly: %s", where(error))  # noqa: TRY400 - see where()
            return Verdict(Auth.REJECTED, Reason.TOKEN_INVALID)

    async def _key_in_time(self, kid: str, patience: float) -> RSAPublicKey:
        try:
            return await self._keys.key_for(kid, patience)
        except KeyUnknownError:
            raise _CheckFailedError(
                Reason.JWK_KID_MISMATCH, "key id", "the kid of a key that this Clerk instance publishes", kid
            ) from None
        except KeysUnavailableError:
            raise _CheckFailedError(
                Reason.JWK_FAILED_TO_LOAD, "key id", "keys from Clerk", "none in time", Auth.UNVERIFIABLE
            ) from None

    def _judge_claims(self, claims: dict[str, Any]) -> Verdict:
        """Judge claims whose signature holds."""
        for name in ("sub", "sid"):
            if not _is_identifier(claims.get(name)):
                raise _invalid(name, "a string of 1-128 visible ASCII characters", claims.get(name))
        if not isinstance(claims.get("jti", ""), str):
            raise _invalid("jti", "a string, or none", claims.get("jti"))
        expires, issued, not_before = _times(claims)
        if "aud" in claims:
            raise _invalid("aud", "none: Clerk's session tokens have no audience", claims.get("aud"))
        party = claims.get("azp")
        if self._authorized_parties and (not isinstance(party, str) or party not in self._authorized_parties):
            raise _CheckFailedError(
                Reason.TOKEN_INVALID_AUTHORIZED_PARTIES, "azp", "an origin in CLERK_AUTHORIZED_PARTIES", party
            )
        if self._issuer is not None and claims.get("iss") != self._issuer:
            raise _CheckFailedError(Reason.TOKEN_INVALID_ISSUER, "iss", self._issuer, claims.get("iss"))

        now = self._clock()
        if issued > now + LEEWAY:
            raise _CheckFailedError(
                Reason.TOKEN_IAT_IN_THE_FUTURE, "iat", f"at most {LEEWAY} s ahead of our clock", _ahead(issued, now)
            )
        if not_before > now + LEEWAY:
            raise _CheckFailedError(
                Reason.TOKEN_NOT_ACTIVE_YET, "nbf", f"at most {LEEWAY} s ahead of our clock", _ahead(not_before, now)
            )
        identity = _identity(claims, issued, expires)
        if expires <= now - LEEWAY:
            finding = Finding("exp", f"at most {LEEWAY} s behind our clock", f"{now - expires:.0f} s behind")
            return Verdict(Auth.EXPIRED, Reason.TOKEN_EXPIRED, identity, finding)
        return Verdict(Auth.VERIFIED, None, identity)


def _invalid(check: str, expected: str, found: object) -> _CheckFailedError:
    return _CheckFailedError(Reason.TOKEN_INVALID, check, expected, found)


def _ahead(moment: float, now: float) -> str:
    return f"{moment - now:.0f} s ahead"


def _parts(token: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """Signing input, header as sent, payload and signature of a compact JWS (RFC 7515, section 7.1)."""
    if len(token) > MAX_TOKEN_BYTES:
        raise _CheckFailedError(
            Reason.TOKEN_TOO_LARGE, "size", f"at most {MAX_TOKEN_BYTES} bytes", f"{len(token)} bytes"
        )
    if token.startswith(_MACHINE_TOKENS):
        raise _CheckFailedError(
            Reason.TOKEN_TYPE_NOT_SUPPORTED, "token type", "a session token", "a machine token, OAuth token or API key"
        )
    signing_input, _, signature = token.rpartition(b".")
    header, dot, payload = signing_input.partition(b".")
    if not dot or b"." in payload:
        raise _invalid("form", "three parts with dots between them", f"{token.count(b'.') + 1} parts")
    return signing_input, header, _decoded(payload), _decoded(signature)


def _decoded(part: bytes) -> bytes:
    """Strict base64url: nothing but its alphabet, and only 0 in the bits left over (RFC 4648, sections 3.3 and 3.5).

    With a library's own, which asks the same, a whole logout costs over 3 % more.
    """
    length = len(part) % 4
    try:
        if length and part[-1] not in _LAST_CHARACTERS[length]:
            raise binascii.Error
        return binascii.a2b_base64(part.translate(_BASE64URL_TO_BASE64) + b"=" * (-length % 4), strict_mode=True)
    except binascii.Error:
        raise _invalid(
            "form", "base64url without padding (RFC 7515, section 2) in each part", "something else"
        ) from None


def _json_object(raw: bytes, check: str) -> dict[str, Any]:
    """Strict JSON (RFC 8259) in UTF-8: no NaN, no byte order mark, no lone surrogate, bounded depth."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise _invalid(check, "a JSON object in UTF-8", "something else")
    return value


@lru_cache(_HEADERS_REMEMBERED)
def _checked_header(part: bytes) -> str:
    """Check the JOSE header and give its ``kid``. What fails is not remembered."""
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
        raise _CheckFailedError(
            Reason.TOKEN_CATEGORY_NOT_SUPPORTED, "cat", f"{SESSION_CATEGORY} (a session token), or none", category
        )
    return kid


def _times(claims: Mapping[str, Any]) -> tuple[int, int, int]:
    """``exp``, ``iat`` and ``nbf`` in seconds since 1970; cut to whole seconds, as in the PyJWT of Clerk's SDK."""
    expires, issued, not_before = claims.get("exp"), claims.get("iat"), claims.get("nbf", 0)
    if type(expires) is type(issued) is type(not_before) is int:  # as all of Clerk's are
        return expires, issued, not_before
    for name, value in ("exp", expires), ("iat", issued), ("nbf", not_before):
        # bool is an int in Python, and a JSON true is no time.
        if type(value) not in (int, float):
            raise _invalid(name, "a number of seconds since 1970", value)
    expires, issued, not_before = map(int, (expires, issued, not_before))
    return expires, issued, not_before


def _is_identifier(value: object) -> bool:
    return isinstance(value, str) and _identifier(value) is not None


def _identity(claims: Mapping[str, Any], issued: int, expires: int) -> Identity:
    """Who the claims name. ``sub`` and ``sid`` are checked; of the rest, what is odd is left out."""
    is_v2 = claims.get("v") == 2  # noqa: PLR2004 - Clerk's token version
    org_id = _identifier_in(claims.get("o"), "id") if is_v2 else _identifier_in(claims, "org_id")
    actor_id = _identifier_in(claims.get("act"), "sub")
    return Identity(claims["sub"], claims["sid"], org_id, actor_id, issued, expires, _factor_ages(claims.get("fva")))


def _factor_ages(value: object) -> tuple[int, int] | None:
    if not isinstance(value, list) or len(value) != 2:  # noqa: PLR2004 - first and second factor
        return None
    first, second = value
    # bool is an int in Python; -1 means never.
    return (first, second) if type(first) is type(second) is int and first >= -1 and second >= -1 else None


def _identifier_in(value: object, name: str) -> str | None:
    """A member of what may be an object, if it is an identifier."""
    if not isinstance(value, dict):
        return None
    member = value.get(name)
    return member if isinstance(member, str) and _identifier(member) else None

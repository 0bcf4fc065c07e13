"""Verifies session tokens, in the order of checks that docs/security.md lists.

The algorithm is fixed and only ``kid`` is taken from a token's header, so no JOSE library is needed: what those make of
a hostile header (``crit: null``, a list as ``alg``) is not a verdict, and each check would have to be repeated here.
"""

import binascii
import logging
import re
import time
from collections.abc import Callable, Sequence
from functools import lru_cache

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from service.clerk.credentials import MAX_TOKEN_BYTES
from service.clerk.keys import Keys
from service.clerk.verdict import (
    ABSENT,
    Auth,
    Finding,
    Identity,
    Reason,
    Verdict,
    better,
    identifier_in,
    initiator_of,
    matches_identifier,
)
from service.telemetry.diagnostics import where

logger = logging.getLogger("service.verifier")

LEEWAY = 5
"""Seconds by which clocks may differ unless the settings say otherwise, as in Clerk's SDKs."""
MAX_CANDIDATES = 4
"""Tokens of one request that are verified."""
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
_NUMBERS = frozenset({int, float})
"""In JSON; bool is an int to isinstance()."""
_matches_party = re.compile(r"[!-~]{1,256}").fullmatch


class _CheckFailedError(ValueError):
    """The token fails a check. Never leaves this module."""

    def __init__(self, check: str, expected: str, found: object, reason: Reason = Reason.TOKEN_INVALID) -> None:
        auth = Auth.UNVERIFIABLE if reason is Reason.JWK_FAILED_TO_LOAD else Auth.REJECTED
        self.verdict = Verdict(auth, reason, None, Finding(check, expected, found))


class Verifier:
    """Verifies session tokens of one Clerk instance. Stateless; never raises because of a token.

    Args:
        keys: the instance's public keys.
        authorized_parties: the allowed ``azp``; empty allows any.
        azp_required: whether a token without ``azp`` is rejected where there are allowed ones.
        audiences: of these a token's ``aud`` must name one; empty looks at none.
        issuers: the allowed ``iss``; empty allows any.
        clock_skew: seconds by which clocks may differ.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        keys: Keys,
        *,
        authorized_parties: Sequence[str] = (),
        azp_required: bool = True,
        audiences: Sequence[str] = (),
        issuers: Sequence[str] = (),
        clock_skew: int = LEEWAY,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._authorized_parties = frozenset(authorized_parties)
        self._azp_required = azp_required
        self._audiences = frozenset(audiences)
        self._issuers = frozenset(issuers)
        self._skew = clock_skew
        self._clock = clock

    async def verify(self, tokens: Sequence[bytes]) -> Verdict:
        """Return the best verdict on the tokens of one request; ``ABSENT`` without any."""
        best, deadline = ABSENT, time.monotonic() + KEY_TIMEOUT
        for token in self.most_likely(tokens) if len(tokens) > 1 else tokens:
            verdict = await self.verify_one(token, deadline)
            if verdict.auth is Auth.VERIFIED:
                return verdict
            best = better(best, verdict)
        return best

    def most_likely(self, tokens: Sequence[bytes]) -> Sequence[bytes]:
        """Return at most four of a request's tokens, those first whose key is at hand and that end last."""
        return sorted(tokens, key=self._likelihood, reverse=True)[:MAX_CANDIDATES]

    def _likelihood(self, token: bytes) -> tuple[int, float]:
        """Look into a token without verifying it; the larger, the likelier it is a good one."""
        if len(token) > MAX_TOKEN_BYTES:
            return 0, 0
        try:
            header, payload, _ = token.split(b".", 3)
            kid, _ = _checked_header(header)
            expires = orjson.loads(_decoded(payload))["exp"]
        except (ValueError, TypeError, LookupError):
            return 0, 0
        has_key = self._keys.by_kid.get(kid, self._keys.of_any_kid) is not None
        return 1 + has_key, expires if isinstance(expires, int | float) else 0

    async def verify_one(self, token: bytes, deadline: float) -> Verdict:
        """Return the verdict on one token; wait for its key until ``deadline``, a time of ``time.monotonic()``."""
        try:
            if len(token) > MAX_TOKEN_BYTES:
                expected = f"at most {MAX_TOKEN_BYTES} bytes"
                raise _CheckFailedError("size", expected, f"{len(token)} bytes", Reason.TOKEN_TOO_LARGE)
            if token.startswith(_MACHINE_TOKENS):
                found = "a machine token, OAuth token or API key"
                raise _CheckFailedError("token type", "a session token", found, Reason.TOKEN_TYPE_NOT_SUPPORTED)
            signing_input, _, signature = token.rpartition(b".")
            header, dot, payload = signing_input.partition(b".")
            if not dot or b"." in payload:
                found = f"{token.count(b'.') + 1} parts"
                raise _CheckFailedError("form", "three parts with dots between them", found)
            raw_payload, raw_signature = _decoded(payload), _decoded(signature)
            kid, origin_issued_at = _checked_header(header)
            key = self._keys.by_kid.get(kid, self._keys.of_any_kid) or await self._wait_for_key(kid, deadline)
            key.verify(raw_signature, signing_input, *_RS256)
            return self._check_claims(orjson.loads(raw_payload), origin_issued_at)
        except _CheckFailedError as failure:
            return failure.verdict
        except InvalidSignature:
            finding = Finding("signature", "an RS256 signature by that key", "one that this key does not verify")
            return Verdict(Auth.REJECTED, Reason.TOKEN_INVALID_SIGNATURE, None, finding)
        except orjson.JSONDecodeError:
            finding = Finding("form", "strict JSON in UTF-8 in header and payload", "something else")
            return Verdict(Auth.REJECTED, Reason.TOKEN_INVALID, None, finding)
        except Exception as error:  # noqa: BLE001 - a token that breaks a library is invalid, and a bug of ours
            logger.error("verification failed unexpectedly: %s", where(error))  # noqa: TRY400 - see where()
            return Verdict(Auth.REJECTED, Reason.TOKEN_INVALID)

    async def _wait_for_key(self, kid: str, deadline: float) -> RSAPublicKey:
        key = await self._keys.key_for(kid, max(0.0, deadline - time.monotonic()))
        if isinstance(key, Reason):
            found = kid if key is Reason.JWK_KID_MISMATCH else "no keys from Clerk in time"
            raise _CheckFailedError("key id", "the kid of a key that this Clerk instance publishes", found, key)
        return key

    def _check_claims(self, claims: object, origin_issued_at: float | None) -> Verdict:  # noqa: C901 - the checks in their order
        """Check claims whose signature is good, and say whom they name; odd values without a check are left out."""
        if not isinstance(claims, dict):
            raise _CheckFailedError("payload", "a JSON object", "something else")
        for name in ("sub", "sid"):
            value = claims.get(name)
            if not isinstance(value, str) or matches_identifier(value) is None:
                raise _CheckFailedError(name, "a string of 1-128 visible ASCII characters", value)
        if not isinstance(claims.get("jti", ""), str):
            raise _CheckFailedError("jti", "a string, or none", claims["jti"])
        times = {"exp": claims.get("exp"), "iat": claims.get("iat"), "nbf": claims.get("nbf", 0)}
        for name, value in times.items():
            if type(value) not in _NUMBERS:
                raise _CheckFailedError(name, "a number of seconds since 1970", value)
        # In whole seconds, cut off as by the PyJWT of Clerk's SDK.
        expires, issued, not_before = map(int, times.values())
        aud, azp, iss, now = claims.get("aud"), claims.get("azp"), claims.get("iss"), self._clock()
        if self._audiences and not _names_one_of(self._audiences, aud):
            raise _CheckFailedError("aud", "one of CLERK_AUDIENCE", aud, Reason.TOKEN_INVALID_AUDIENCE)
        is_allowed = azp in self._authorized_parties if isinstance(azp, str) else azp is None and not self._azp_required
        if self._authorized_parties and not is_allowed:
            expected = "an origin in CLERK_AUTHORIZED_PARTIES"
            raise _CheckFailedError("azp", expected, azp, Reason.TOKEN_INVALID_AUTHORIZED_PARTIES)
        if self._issuers and not (isinstance(iss, str) and iss in self._issuers):
            raise _CheckFailedError("iss", "one of CLERK_ISSUER", iss, Reason.TOKEN_INVALID_ISSUER)
        latest = f"at most {self._skew} s ahead of our clock"
        if issued > now + self._skew:
            raise _CheckFailedError("iat", latest, f"{issued - now:.0f} s ahead", Reason.TOKEN_IAT_IN_THE_FUTURE)
        if not_before > now + self._skew:
            raise _CheckFailedError("nbf", latest, f"{not_before - now:.0f} s ahead", Reason.TOKEN_NOT_ACTIVE_YET)
        act = claims.get("act")
        organization = claims.get("o") if claims.get("v") == 2 else {"id": claims.get("org_id")}  # noqa: PLR2004 - Clerk's token version
        identity = Identity(
            user_id=claims["sub"],
            session_id=claims["sid"],
            org_id=identifier_in(organization, "id") if organization else None,
            actor_id=identifier_in(act, "sub") if act else None,
            issued_at=issued,
            origin_issued_at=origin_issued_at,
            expires_at=expires,
            longest_lifetime=expires - issued + 2 * self._skew,
            factor_ages=claims.get("fva"),
            authorized_party=azp if isinstance(azp, str) and _matches_party(azp) else None,
            status=claims.get("sts", "active"),
            initiated_by="user" if act is None else initiator_of(act),
        )
        if expires <= now - self._skew:
            finding = Finding("exp", f"at most {self._skew} s behind our clock", f"{now - expires:.0f} s behind")
            return Verdict(Auth.EXPIRED, Reason.TOKEN_EXPIRED, identity, finding)
        return Verdict(Auth.VERIFIED, None, identity)


def _decoded(part: bytes) -> bytes:
    """Decode canonical base64url: only its alphabet, no padding, unused bits 0 (RFC 4648, sections 3.3 and 3.5)."""
    length = len(part) % 4
    try:
        if length and part[-1] not in _LAST_CHARACTERS[length]:
            raise binascii.Error
        return binascii.a2b_base64(part.translate(_BASE64URL_TO_BASE64) + b"=" * (-length % 4), strict_mode=True)
    except binascii.Error:
        expected = "base64url without padding (RFC 7515, section 2) in each part"
        raise _CheckFailedError("form", expected, "something else") from None


@lru_cache(_CACHED_HEADERS)
def _checked_header(part: bytes) -> tuple[str, float | None]:
    """Check the JOSE header and return its ``kid`` and ``oiat``. Failures are not cached."""
    header = orjson.loads(_decoded(part))
    if not isinstance(header, dict):
        raise _CheckFailedError("header", "a JSON object", "something else")
    if header.get("alg") != "RS256":
        raise _CheckFailedError("alg", "RS256", header.get("alg"))
    kid = header.get("kid")
    if not isinstance(kid, str):
        raise _CheckFailedError("kid", "a string", kid)
    for name in _FORBIDDEN_PARAMETERS:
        if name in header:
            raise _CheckFailedError(name, "not in the header", header[name])
    if header.get("typ", "JWT") != "JWT":
        raise _CheckFailedError("typ", "JWT, or none", header["typ"])
    category = header.get("cat", SESSION_CATEGORY)
    if category != SESSION_CATEGORY:
        expected = f"{SESSION_CATEGORY} (a session token), or none"
        raise _CheckFailedError("cat", expected, category, Reason.TOKEN_CATEGORY_NOT_SUPPORTED)
    origin_issued_at = header.get("oiat")
    return kid, origin_issued_at if type(origin_issued_at) in _NUMBERS else None


def _names_one_of(audiences: frozenset[str], aud: object) -> bool:
    """Say whether an ``aud``, a string or a list of strings (RFC 7519, section 4.1.3), names an audience."""
    values = aud if isinstance(aud, list) else [aud]
    return all(isinstance(value, str) for value in values) and not audiences.isdisjoint(values)

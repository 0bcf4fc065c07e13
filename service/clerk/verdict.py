"""The verdict on who logged out, and what it is made of."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Auth(StrEnum):
    """What is known about the caller. Better ones first: the order decides between several tokens."""

    VERIFIED = "verified"
    """Signed by this Clerk instance, a session token, valid now."""
    EXPIRED = "expired"
    """The same, but its time has passed: the tab slept, or the token was read before sign-out."""
    UNVERIFIABLE = "unverifiable"
    """No key could be had in time; nothing is known."""
    REJECTED = "rejected"
    """A token was sent and failed a check."""
    ABSENT = "absent"
    """No token was sent."""


class Reason(StrEnum):
    """Why a verdict is not ``verified``. Clerk's own codes where one fits, ours at the end."""

    SESSION_TOKEN_MISSING = "session-token-missing"
    TOKEN_EXPIRED = "token-expired"
    TOKEN_NOT_ACTIVE_YET = "token-not-active-yet"
    TOKEN_IAT_IN_THE_FUTURE = "token-iat-in-the-future"
    TOKEN_INVALID = "token-invalid"
    TOKEN_INVALID_SIGNATURE = "token-invalid-signature"
    TOKEN_INVALID_AUTHORIZED_PARTIES = "token-invalid-authorized-parties"
    TOKEN_TYPE_NOT_SUPPORTED = "token-type-not-supported"
    JWK_KID_MISMATCH = "jwk-kid-mismatch"
    JWK_FAILED_TO_LOAD = "jwk-failed-to-load"

    TOKEN_TOO_LARGE = "token-too-large"
    TOKEN_INVALID_ISSUER = "token-invalid-issuer"
    TOKEN_INVALID_AUDIENCE = "token-invalid-audience"
    TOKEN_CATEGORY_NOT_SUPPORTED = "token-category-not-supported"


class Identity(NamedTuple):
    """Who a token's signature proves, and until when. Each id is 1-128 visible ASCII characters."""

    user_id: str
    session_id: str
    org_id: str | None = None
    """The active organisation."""
    actor_id: str | None = None
    """The impersonator, when somebody acts as the user and the token says who."""
    issued_at: int = 0
    """The token's ``iat``, in seconds since 1970."""
    origin_issued_at: float | None = None
    """The header's ``oiat``: when Clerk's origin put the claims together; its edge may have signed them anew later."""
    expires_at: int = 0
    """The token's ``exp``, in seconds since 1970."""
    longest_lifetime: int = 0
    """Seconds that a token which Clerk issues now for the same session can be valid, leeway included."""
    factor_ages: object = None
    """The token's ``fva``, unchecked: ``is_fresh`` judges it."""
    authorized_party: str | None = None
    """The token's ``azp``, the origin of the frontend; None also where it is not 1-256 visible ASCII characters."""
    status: object = "active"
    """The token's ``sts``, unchecked: ``pending`` while the session has open tasks; ``active`` where there is none."""
    initiated_by: str = "user"
    """What ``initiator_of`` says of the token's ``act``."""


matches_identifier = re.compile(r"[!-~]{1,128}").fullmatch


def identifier_in(value: object, name: str) -> str | None:
    """Return an object's member if it is an identifier: 1-128 visible ASCII characters."""
    member = value.get(name) if isinstance(value, dict) else None
    return member if isinstance(member, str) and matches_identifier(member) else None


def initiator_of(actor: object) -> str:
    """Say who acts: ``user``; ``agent`` or ``admin`` where there is an actor, however odd: not the user alone."""
    if actor is None:
        return "user"
    return "agent" if isinstance(actor, dict) and actor.get("type") == "agent" else "admin"


@dataclass(frozen=True, slots=True)
class Finding:
    """The check that decided against a token, for a person who asks why. Never written to a log."""

    check: str
    expected: str
    found: object


class Verdict(NamedTuple):
    """Who logged out, as far as it is proven.

    ``identity`` is set exactly for ``verified`` and ``expired``; ``reason`` is None exactly for ``verified``.
    """

    auth: Auth
    reason: Reason | None = None
    identity: Identity | None = None
    finding: Finding | None = None


ABSENT = Verdict(Auth.ABSENT, Reason.SESSION_TOKEN_MISSING)
_RANK = {auth: rank for rank, auth in enumerate(Auth)}


def better(first: Verdict, second: Verdict) -> Verdict:
    """Give the better of the verdicts on two tokens of one request; the first where they are alike."""
    return second if _RANK[second.auth] < _RANK[first.auth] else first

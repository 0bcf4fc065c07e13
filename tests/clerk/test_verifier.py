"""The verdict table, with a fake for the keys and a clock that stands still."""

import binascii
import json
import logging
from base64 import urlsafe_b64decode, urlsafe_b64encode
from itertools import combinations, permutations, product
from typing import Any, NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from service.clerk.credentials import MAX_TOKEN_BYTES
from service.clerk.keys import Keys
from service.clerk.verdict import Auth, Identity, Reason, Verdict
from service.clerk.verifier import LEEWAY, Verifier
from tests.support.signing import ISSUER, KID, ORIGIN, claims, header, private_key, token, token_of

NOW = 1_790_000_000
USER, SESSION = "user_2xyzUVW", "sess_2abcDEF"
OTHER_KID = "ins_2somebodyElse"
UNREACHABLE_KID = "ins_2notLoadedYet"
AUDIENCE = "https://api.example.com"
WHO = Identity(
    USER,
    SESSION,
    issued_at=NOW,
    expires_at=NOW + 60,
    longest_lifetime=70,
    factor_ages=[3, -1],
    authorized_party=ORIGIN,
)


class FakeKeys(Keys):
    """Has the instance's one key at hand; of one other it cannot tell."""

    def __init__(self) -> None:
        self.by_kid = {KID: private_key().public_key()}
        self.asked: list[str] = []

    async def key_for(self, kid: str, max_wait: float) -> RSAPublicKey | Reason:  # noqa: ARG002 - see Keys
        self.asked.append(kid)
        return Reason.JWK_FAILED_TO_LOAD if kid == UNREACHABLE_KID else Reason.JWK_KID_MISMATCH


def verifier(*, keys: Keys | None = None, now: float = NOW, **options: Any) -> Verifier:
    options = {"authorized_parties": [ORIGIN], "issuers": [ISSUER]} | options
    return Verifier(keys or FakeKeys(), clock=lambda: now, **options)


async def verdict_on(token: str, **options: Any) -> Verdict:
    return await verifier(**options).verify([token.encode()])


def session_token(**changes: Any) -> str:
    """Valid at ``NOW``; None leaves a claim out."""
    return token(claims(now=NOW, **changes))


def with_header(**changes: Any) -> str:
    """Signed, with these header members."""
    return token(claims(now=NOW), head=header() | changes)


# --- What is wrong with a token --------------------------------------------------------------------------------------


class Fault(NamedTuple):
    """One thing wrong with a part of a token, and what the verdict says about it."""

    check: str
    reason: Reason
    part: str
    change: Any

    def __str__(self) -> str:
        return f"{self.check} ({self.reason})"


def token_with(*faults: Fault) -> str:
    parts: dict[str, Any] = {"header": header(), "claims": claims(now=NOW, aud=AUDIENCE), "key": None, "ending": ""}
    for fault in faults:
        merges = isinstance(parts[fault.part], dict) and isinstance(fault.change, dict)
        parts[fault.part] = parts[fault.part] | fault.change if merges else fault.change
    head, body = (json.dumps(parts[part]).encode() for part in ("header", "claims"))
    return f"{token_of(head, body, parts['key'])}{parts['ending']}"


INVALID = Reason.TOKEN_INVALID
# In the order in which README.md lists the checks.
FAULTS = [
    Fault("size", Reason.TOKEN_TOO_LARGE, "ending", "x" * MAX_TOKEN_BYTES),
    Fault("form", INVALID, "ending", "="),
    Fault("header", INVALID, "header", []),
    Fault("alg", INVALID, "header", {"alg": "none"}),
    Fault("kid", INVALID, "header", {"kid": 1}),
    Fault("crit", INVALID, "header", {"crit": []}),
    Fault("jwk", INVALID, "header", {"jwk": {}}),
    Fault("x5c", INVALID, "header", {"x5c": []}),
    Fault("typ", INVALID, "header", {"typ": "at+jwt"}),
    Fault("cat", Reason.TOKEN_CATEGORY_NOT_SUPPORTED, "header", {"cat": "cl_B7d4PD222AAA"}),
    Fault("key id", Reason.JWK_FAILED_TO_LOAD, "header", {"kid": UNREACHABLE_KID}),
    Fault("key id", Reason.JWK_KID_MISMATCH, "header", {"kid": OTHER_KID}),
    Fault("signature", Reason.TOKEN_INVALID_SIGNATURE, "key", private_key("other")),
    Fault("payload", INVALID, "claims", []),
    Fault("sub", INVALID, "claims", {"sub": ""}),
    Fault("sid", INVALID, "claims", {"sid": None}),
    Fault("jti", INVALID, "claims", {"jti": 5}),
    Fault("exp", INVALID, "claims", {"exp": "soon"}),
    Fault("iat", INVALID, "claims", {"iat": True}),
    Fault("nbf", INVALID, "claims", {"nbf": None}),
    Fault("aud", Reason.TOKEN_INVALID_AUDIENCE, "claims", {"aud": "https://evil.example"}),
    Fault("azp", Reason.TOKEN_INVALID_AUTHORIZED_PARTIES, "claims", {"azp": "https://evil.example"}),
    Fault("iss", Reason.TOKEN_INVALID_ISSUER, "claims", {"iss": "https://evil.example"}),
    Fault("iat", Reason.TOKEN_IAT_IN_THE_FUTURE, "claims", {"iat": NOW + 60}),
    Fault("nbf", Reason.TOKEN_NOT_ACTIVE_YET, "claims", {"nbf": NOW + 60}),
    Fault("exp", Reason.TOKEN_EXPIRED, "claims", {"exp": NOW - 60}),
]
AUTH = {Reason.JWK_FAILED_TO_LOAD: Auth.UNVERIFIABLE, Reason.TOKEN_EXPIRED: Auth.EXPIRED}


@pytest.mark.parametrize("fault", FAULTS, ids=str)
async def test_one_fault_decides_and_the_finding_names_it(fault: Fault) -> None:
    """Only an expired token still says whose it was."""
    verdict = await verdict_on(token_with(fault), audiences=[AUDIENCE])
    assert (verdict.auth, verdict.reason) == (AUTH.get(fault.reason, Auth.REJECTED), fault.reason)
    assert verdict.finding is not None
    assert verdict.finding.check == fault.check
    assert (verdict.identity is not None) is (verdict.auth is Auth.EXPIRED)


async def test_of_two_faults_the_one_that_is_checked_first_decides() -> None:
    for first, second in combinations(FAULTS, 2):
        verdict = await verdict_on(token_with(second, first), audiences=[AUDIENCE])
        assert verdict.finding is not None
        assert (verdict.finding.check, verdict.reason) == (first.check, first.reason), second


def test_every_reason_is_tried_here() -> None:
    elsewhere = {Reason.SESSION_TOKEN_MISSING, Reason.TOKEN_TYPE_NOT_SUPPORTED}
    assert {fault.reason for fault in FAULTS} | elsewhere == set(Reason)


# --- The other rows of the table -------------------------------------------------------------------------------------


async def test_a_session_token_is_verified() -> None:
    assert await verdict_on(session_token()) == Verdict(Auth.VERIFIED, None, WHO)


# --- Times: the clock stands still, so the boundaries are exact ------------------------------------------------------


@pytest.mark.parametrize("skew", [LEEWAY, 0, 60])
async def test_clocks_may_differ_by_the_configured_seconds(skew: int) -> None:
    async def reason(now: float, **times: int) -> Reason | None:
        return (await verdict_on(session_token(**times), now=now, clock_skew=skew)).reason

    assert await reason(NOW + skew - 0.001, iat=NOW - 60, exp=NOW) is None
    assert await reason(NOW + skew, iat=NOW - 60, exp=NOW) is Reason.TOKEN_EXPIRED
    assert await reason(NOW - skew, iat=NOW, nbf=NOW) is None
    assert await reason(NOW - skew - 0.001, iat=NOW) is Reason.TOKEN_IAT_IN_THE_FUTURE
    assert await reason(NOW - skew - 0.001, iat=NOW - 99, nbf=NOW) is Reason.TOKEN_NOT_ACTIVE_YET


async def test_fractions_of_a_second_are_cut_off() -> None:
    assert (await verdict_on(session_token(exp=NOW - LEEWAY + 0.9))).reason is Reason.TOKEN_EXPIRED
    assert (await verdict_on(session_token(iat=NOW + LEEWAY + 0.9, nbf=NOW + LEEWAY + 0.9))).reason is None


# --- azp, aud and iss ------------------------------------------------------------------------------------------------

CONFIGURED = {
    "azp": ("authorized_parties", ["https://a.example", ORIGIN], Reason.TOKEN_INVALID_AUTHORIZED_PARTIES),
    "aud": ("audiences", ["convex", "other"], Reason.TOKEN_INVALID_AUDIENCE),
    "iss": ("issuers", ["https://clerk.satellite.example", ISSUER], Reason.TOKEN_INVALID_ISSUER),
}
"""The option, what it allows here, and the reason where a claim is something else."""


@pytest.mark.parametrize(
    ("claim", "value", "allowed"),
    [
        *(("azp", value, value == ORIGIN) for value in (ORIGIN, ORIGIN + "/", ORIGIN.upper(), None, [ORIGIN], 5)),
        *(("iss", value, value == ISSUER) for value in (ISSUER, ISSUER + "/", ISSUER.upper(), None, [ISSUER], 5)),
        *(("aud", value, True) for value in ("convex", ["nobody", "other"])),
        *(("aud", value, False) for value in (None, "Convex", [], ["convex", 5], {"convex": 1})),
    ],
    ids=str,
)
async def test_a_claim_is_one_of_the_configured_where_some_are(claim: str, value: object, allowed: bool) -> None:
    option, values, reason = CONFIGURED[claim]
    text = session_token(**{claim: value})
    assert (await verdict_on(text, **{option: values})).reason == (None if allowed else reason)
    assert (await verdict_on(text, **{option: ()})).auth is Auth.VERIFIED


async def test_only_a_missing_azp_may_do_where_none_is_required() -> None:
    verdict = await verdict_on(session_token(azp=None), now=NOW + 3600, azp_required=False)
    assert (verdict.auth, verdict.identity) == (Auth.EXPIRED, WHO._replace(authorized_party=None))
    for azp in ("https://evil.example", "", [ORIGIN]):
        assert (await verdict_on(session_token(azp=azp), azp_required=False)).auth is Auth.REJECTED


# --- Identity --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claims", "org_id"),
    [
        ({"v": 2, "o": {"id": "org_2v2", "slg": "acme"}}, "org_2v2"),
        ({"v": 2, "org_id": "org_custom"}, None),
        *(({"v": version, "org_id": "org_2v1", "o": {"id": "org_2v2"}}, "org_2v1") for version in (None, 1, "2", True)),
    ],
    ids=str,
)
async def test_the_organisation_is_where_the_tokens_version_has_it(claims: dict[str, Any], org_id: str | None) -> None:
    assert (await verdict_on(session_token(**claims))).identity == WHO._replace(org_id=org_id)


# --- Several tokens --------------------------------------------------------------------------------------------------

TOKENS = {
    Auth.VERIFIED: session_token(),
    Auth.EXPIRED: session_token(exp=NOW - 60),
    Auth.UNVERIFIABLE: with_header(kid=UNREACHABLE_KID),
    Auth.REJECTED: "rubbish",
}


async def test_the_best_verdict_wins_in_any_order() -> None:
    for pair in permutations(TOKENS, 2):
        best = min(pair, key=[*TOKENS].index)
        assert (await verifier().verify([TOKENS[auth].encode() for auth in pair])).auth is best, pair


async def test_of_two_equally_good_tokens_the_first_wins() -> None:
    tokens = [session_token(exp=NOW - 60, sub="user_first"), session_token(exp=NOW - 60, sub="user_second")]
    verdict = await verifier().verify([text.encode() for text in tokens])
    assert verdict.identity is not None
    assert verdict.identity.user_id == "user_first"


FOREIGN = [
    token(claims(now=NOW, exp=NOW + 600 + number), head=header(kid=f"ins_{number}"), key=private_key("other"))
    for number in range(10)
]
"""Tokens of other Clerk applications on the same host."""


async def test_ours_is_found_behind_other_applications_cookies() -> None:
    keys = FakeKeys()
    large = [session_token(exp=NOW + 600, fill="x" * MAX_TOKEN_BYTES, n=number) for number in range(4)]
    sent = [text.encode() for text in (*FOREIGN, *large, "x", "a.b.c", "...", session_token())]
    assert (await verifier(keys=keys).verify(sent)).auth is Auth.VERIFIED
    assert keys.asked == []


async def test_of_our_own_the_one_that_ends_last_is_verified_first() -> None:
    ends = [NOW - 60, NOW + 10, NOW - 600, NOW + 50, NOW + 30, NOW - 5, NOW + 1]
    odd = [session_token(exp="later"), session_token(exp=True), session_token(exp=None), session_token(exp=[1])]
    sent = [text.encode() for text in (*odd, *(session_token(exp=end) for end in ends))]
    verdict = await verifier().verify(sent)
    assert verdict.identity is not None
    assert verdict.identity.expires_at == NOW + 50


async def test_at_most_four_signatures_of_a_request_are_checked() -> None:
    keys = FakeKeys()
    assert (await verifier(keys=keys).verify([text.encode() for text in FOREIGN])).auth is Auth.REJECTED
    assert keys.asked == [f"ins_{number}" for number in (9, 8, 7, 6)]


# --- Base64url -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", range(5))
async def test_exactly_the_canonical_ends_of_a_part_are_taken(length: int) -> None:
    """The verifier looks at the parts before anything else."""
    for last in product(b"-_+/=AQgwBCDE~ \n\xff", repeat=min(length, 2)):
        part = (b"-_" + bytes(last))[-length:] if length else b""
        finding = (await verifier().verify([b"e30." + part + b"."])).finding
        assert finding is not None
        assert (finding.check != "form") == is_canonical(part), part


def is_canonical(part: bytes) -> bool:
    """By the definition: what is decoded gives the same part again (RFC 4648, section 3.5)."""
    try:
        data = urlsafe_b64decode(part + b"==")
    except binascii.Error:
        return False
    return urlsafe_b64encode(data).rstrip(b"=") == part


# --- What must not happen --------------------------------------------------------------------------------------------


class RaisingKeys(Keys):
    """Breaks, and quotes in its message what it was given."""

    async def key_for(self, kid: str, max_wait: float) -> RSAPublicKey:
        raise RuntimeError(f"no key for {kid!r} within {max_wait}")


async def test_an_unexpected_error_rejects_and_is_logged_without_the_token(caplog: pytest.LogCaptureFixture) -> None:
    text = session_token()
    verdict = await verdict_on(text, keys=RaisingKeys())
    assert verdict == Verdict(Auth.REJECTED, Reason.TOKEN_INVALID)
    (record,) = caplog.records
    assert (record.name, record.levelno, record.exc_info) == ("service.verifier", logging.ERROR, None)
    assert KID not in record.getMessage()
    assert not any(text[start : start + 8] in record.getMessage() for start in range(len(text) - 8))

import json

import pytest

from service.clerk.verdict import ABSENT, Auth, Reason, Verdict
from service.sessions.refusal import ABSENT_REFUSED, REVOCATIONS_UNAVAILABLE, SESSION_REVOKED, Refusal, refusal_of

EXPIRED = refusal_of(Verdict(Auth.EXPIRED, Reason.TOKEN_EXPIRED))
REJECTED = refusal_of(Verdict(Auth.REJECTED, Reason.TOKEN_INVALID_SIGNATURE))
UNVERIFIABLE = refusal_of(Verdict(Auth.UNVERIFIABLE, Reason.JWK_FAILED_TO_LOAD))
ALL = [refusal_of(ABSENT), EXPIRED, REJECTED, UNVERIFIABLE, SESSION_REVOKED, REVOCATIONS_UNAVAILABLE]


@pytest.mark.parametrize("refusal", ALL, ids=lambda refusal: refusal.reason)
def test_a_refusal_is_json_that_nobody_stores(refusal: Refusal) -> None:
    response = refusal.response()
    assert response.status_code == refusal.status
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    assert json.loads(bytes(response.body)) == {
        "success": False,
        "message": refusal.message,
        "reason": refusal.reason,
    }


def test_a_request_without_a_token_is_asked_for_one() -> None:
    assert ABSENT_REFUSED.response().headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("refusal", [EXPIRED, REJECTED, SESSION_REVOKED], ids=lambda refusal: refusal.reason)
def test_a_bad_token_is_called_invalid_with_our_reason(refusal: Refusal) -> None:
    response = refusal.response()
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == f'Bearer error="invalid_token", error_description="{refusal.reason}"'
    assert "retry-after" not in response.headers


@pytest.mark.parametrize("refusal", [UNVERIFIABLE, REVOCATIONS_UNAVAILABLE], ids=lambda refusal: refusal.reason)
def test_what_cannot_be_decided_now_may_be_asked_again(refusal: Refusal) -> None:
    response = refusal.response()
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) >= 1
    assert "www-authenticate" not in response.headers


def test_a_verified_token_is_refused_for_nothing() -> None:
    with pytest.raises(ValueError, match="no reason to refuse"):
        refusal_of(Verdict(Auth.VERIFIED))

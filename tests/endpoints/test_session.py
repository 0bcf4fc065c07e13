"""``GET /v1/auth/session``, beside the ``DELETE`` that shares its path."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from service.revocations.revocation_list import MemoryStore, RevocationsUnavailableError
from tests.clerk.test_bad_input import USER, VECTORS, Vector, assert_nothing_of
from tests.conftest import OpenClient
from tests.support.lines import EventFile
from tests.support.signing import ISSUER, ORIGIN, claims, private_key, token

SESSION = "/v1/auth/session"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


# --- A session that counts -------------------------------------------------------------------------------------------


async def test_it_says_whose_session_it_is_and_until_when(client: httpx.AsyncClient, events: EventFile) -> None:
    now = int(time.time())
    sent = token(claims(now=now, o={"id": "org_2abc"}, act={"sub": "user_2support"}))
    response = await client.get(SESSION, headers=bearer(sent))
    assert response.status_code == 200
    assert response.json() == {
        "user_id": "user_2xyzUVW",
        "session_id": "sess_2abcDEF",
        "org_id": "org_2abc",
        "actor_id": "user_2support",
        "expires_at": time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime(now + 60)),
    }
    assert response.headers.get_list("cache-control") == ["no-store"]
    assert events.new() == []


async def test_a_cookie_is_as_good_as_a_header_and_stays(client: httpx.AsyncClient) -> None:
    response = await client.get(SESSION, headers={"Cookie": f"__session={token()}"})
    assert response.status_code == 200
    assert "set-cookie" not in response.headers


async def test_an_end_beyond_any_calendar_is_the_last_second(client: httpx.AsyncClient) -> None:
    answer = (await client.get(SESSION, headers=bearer(token(claims(exp=10**300))))).json()
    assert answer["expires_at"] == "9999-12-31T23:59:59.000000Z"


async def test_head_is_answered_as_get(client: httpx.AsyncClient) -> None:
    """The server leaves the body out."""
    assert (await client.head(SESSION, headers=bearer(token()))).status_code == 200
    assert (await client.head(SESSION)).status_code == 401


# --- One that does not -----------------------------------------------------------------------------------------------


async def test_without_a_token_it_asks_for_one(client: httpx.AsyncClient, events: EventFile) -> None:
    response = await client.get(SESSION, headers={"Origin": ORIGIN})
    assert response.status_code == 401
    assert response.json() == {
        "success": False,
        "message": "A session token is needed",
        "reason": "session-token-missing",
    }
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.headers.get_list("cache-control") == ["no-store"]
    assert response.headers["access-control-allow-origin"] == ORIGIN
    assert events.new() == []


@pytest.fixture
async def issuer_client(open_client: OpenClient) -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(clerk_issuer=ISSUER) as client:
        yield client


@pytest.mark.parametrize("vector", VECTORS[::33], ids=lambda vector: vector.name)
async def test_nothing_of_a_hostile_token_comes_back(
    vector: Vector, issuer_client: httpx.AsyncClient, events: EventFile
) -> None:
    """Some of each kind; ``tests/clerk/test_bad_input.py`` sends all of them to the ``DELETE``."""
    response = await issuer_client.get(SESSION, headers=list(vector.headers))
    if vector.auth == "verified":
        assert (response.status_code, response.json()["user_id"]) == (200, USER)
    else:
        assert (response.status_code, response.json()["reason"]) == (401, vector.reason)
        assert USER.encode() not in response.content
    out = b"\n".join([response.content, *(value for pair in response.headers.raw for value in pair)])
    assert_nothing_of(vector.secrets, out)
    assert events.new() == []


async def test_a_session_with_open_tasks_does_not_count_but_logs_out(
    client: httpx.AsyncClient, events: EventFile
) -> None:
    sent = bearer(token(claims(sts="pending")))
    response = await client.get(SESSION, headers=sent)
    assert (response.status_code, response.json()["reason"]) == (401, "session-pending")
    await client.delete(SESSION, headers=sent)
    assert (events.one()["auth"], events.new()) == ("verified", [])


@pytest.mark.parametrize("required", [True, False])
async def test_a_token_without_azp_counts_only_where_that_is_allowed(open_client: OpenClient, required: bool) -> None:
    sent = bearer(token(claims(azp=None)))
    async with open_client(clerk_azp_required=required) as client:
        response = await client.get(SESSION, headers=sent)
    assert (response.status_code, response.json().get("reason")) == (
        (401, "token-invalid-authorized-parties") if required else (200, None)
    )


async def test_a_foreign_azp_counts_nowhere(open_client: OpenClient, events: EventFile) -> None:
    sent = bearer(token(claims(azp="https://evil.example")))
    async with open_client(clerk_azp_required=False) as client:
        assert (await client.get(SESSION, headers=sent)).json()["reason"] == "token-invalid-authorized-parties"
        await client.delete(SESSION, headers=sent)
    assert events.one()["reason"] == "token-invalid-authorized-parties"


async def test_after_a_logout_the_token_is_refused_and_reported_once(
    client: httpx.AsyncClient, events: EventFile
) -> None:
    sent = bearer(token()) | {"X-Request-ID": "req-42", "Origin": ORIGIN}
    assert (await client.get(SESSION, headers=sent)).status_code == 200
    await client.delete(SESSION, headers=sent)
    answers = [await client.get(SESSION, headers=sent) for _ in range(3)]
    assert {(answer.status_code, answer.json()["reason"]) for answer in answers} == {(401, "session-revoked")}
    logout, used = events.new()
    assert (logout["event"], logout["auth"]) == ("user_logout", "verified")
    assert (used["event"], used["session_id"]) == ("session_used_after_logout", "sess_2abcDEF")
    assert (used["request_id"], used["origin"]) == ("req-42", ORIGIN)
    assert logout["timestamp"] <= used["logged_out_at"] <= used["timestamp"]
    assert used["issued_after_logout"] is False


async def test_a_signed_out_session_is_refused_also_unrecorded(open_client: OpenClient, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    async with open_client(event_log="/dev/full", event_spool_dir=str(tmp_path / "file")) as client:
        await client.delete(SESSION, headers=bearer(token()))
        answers = [await client.get(SESSION, headers=bearer(token())) for _ in range(2)]
    assert {(answer.status_code, answer.json()["reason"]) for answer in answers} == {(401, "session-revoked")}


async def test_a_logout_that_proves_nothing_signs_nobody_out(client: httpx.AsyncClient) -> None:
    expired, forged = token(claims(now=time.time() - 3600)), token(key=private_key("forger"))
    for sent in ({}, bearer("garbage"), bearer(expired), bearer(forged)):
        await client.delete(SESSION, headers=sent)
    assert (await client.get(SESSION, headers=bearer(token()))).status_code == 200


@pytest.mark.parametrize(("fail", "status"), [("closed", 503), ("open", 200)])
async def test_while_the_list_is_out_of_reach_the_setting_decides(
    open_client: OpenClient, monkeypatch: pytest.MonkeyPatch, fail: str, status: int
) -> None:
    async def out_of_reach(*_: object, **__: object) -> None:
        raise RevocationsUnavailableError("out of reach")

    monkeypatch.setattr(MemoryStore, "find", out_of_reach)
    async with open_client(revocations_fail=fail) as client:
        response = await client.get(SESSION, headers=bearer(token()))
    assert response.status_code == status
    if status == 503:
        assert (response.json()["reason"], response.headers["retry-after"]) == ("revocations-unavailable", "5")

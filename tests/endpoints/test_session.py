"""``GET /v1/auth/session``, beside the ``DELETE`` that shares its path."""

import time
from typing import Any

import httpx
import pytest

from tests.endpoints.parts import bearer
from tests.support.lines import EventFile
from tests.support.signing import ORIGIN, claims, private_key, token

SESSION = "/v1/auth/session"


# --- A session that counts -------------------------------------------------------------------------------------------


async def test_it_says_whose_session_it_is_and_until_when(client: httpx.AsyncClient, events: EventFile) -> None:
    now = int(time.time())
    sent = token(claims(now=now, o={"id": "org_2abc"}, act={"sub": "user_2support"}))
    response = await client.get(SESSION, headers={"Cookie": f"__session={sent}"})
    assert response.status_code == 200
    assert "set-cookie" not in response.headers
    assert response.json() == {
        "user_id": "user_2xyzUVW",
        "session_id": "sess_2abcDEF",
        "org_id": "org_2abc",
        "actor_id": "user_2support",
        "expires_at": time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime(now + 60)),
    }
    assert response.headers.get_list("cache-control") == ["no-store"]
    assert events.new() == []


# --- One that does not -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason", "logout"),
    [
        ({"sts": "pending"}, "session-pending", ("verified", ORIGIN)),
        ({"azp": None}, "token-invalid-authorized-parties", ("verified", None)),
        ({"azp": "https://evil.example"}, "token-invalid-authorized-parties", ("rejected", None)),
    ],
    ids=["open tasks", "no azp", "another origin's"],
)
async def test_what_does_not_count_may_log_out_all_the_same(
    client: httpx.AsyncClient, events: EventFile, changes: dict[str, Any], reason: str, logout: tuple[str, str | None]
) -> None:
    sent = bearer(token(claims(**changes)))
    response = await client.get(SESSION, headers=sent)
    assert (response.status_code, response.json()["reason"]) == (401, reason)
    await client.delete(SESSION, headers=sent)
    event = events.one()
    assert (event["auth"], event["authorized_party"]) == logout


async def test_a_logout_that_proves_nothing_signs_nobody_out(client: httpx.AsyncClient) -> None:
    expired, forged = token(claims(now=time.time() - 3600)), token(key=private_key("forger"))
    for sent in ({}, bearer("garbage"), bearer(expired), bearer(forged)):
        await client.delete(SESSION, headers=sent)
    assert (await client.get(SESSION, headers=bearer(token()))).status_code == 200

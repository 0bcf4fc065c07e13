"""The stand-in's Backend API, and what its page is given."""

import json
import time

import httpx
import pytest

from service.sandbox.instance import Instance
from tests.sandbox.conftest import SECRET, claims_of

AUTHORIZED = {"Authorization": f"Bearer {SECRET}"}


async def test_another_browser_gets_no_token_of_a_session(browser: httpx.AsyncClient) -> None:
    (session,) = (await browser.post("/sandbox/sign-in")).json()["response"]["sessions"]
    browser.cookies.clear()
    assert (await browser.post(f"/v1/client/sessions/{session['id']}/tokens")).status_code == 404


async def test_a_token_can_be_had_with_other_claims(browser: httpx.AsyncClient) -> None:
    changes = {"azp": None, "aud": ["convex"], "sts": "pending", "act": {"sub": "agent_2", "type": "agent"}}
    claims = claims_of((await browser.post("/sandbox/token", params={"claims": json.dumps(changes)})).text)
    assert "azp" not in claims
    assert all(claims[name] == changes[name] for name in ("aud", "sts", "act"))


async def test_sessions_are_listed_newest_first_ten_by_default(browser: httpx.AsyncClient, instance: Instance) -> None:
    sessions = [instance.sign_in("user_alice") for _ in range(12)]
    instance.sign_in("user_bob")
    listed = [
        (await browser.get("/v1/sessions", params={"user_id": "user_alice"} | page, headers=AUTHORIZED)).json()
        for page in ({}, {"limit": "500", "offset": "10"})
    ]
    assert listed == [[session.as_json() for session in page] for page in (sessions[:1:-1], sessions[1::-1])]


async def test_other_hosts_are_not_answered(browser: httpx.AsyncClient) -> None:
    """A page of another site, whose name suddenly leads to this machine, gets no token."""
    assert (await browser.post("/sandbox/token", headers={"Host": "evil.example"})).status_code == 400


async def test_the_page_knows_where_the_service_is(browser: httpx.AsyncClient) -> None:
    page = await browser.get("/")
    assert 'data-service="http://service.test"' in page.text
    assert "connect-src 'self' http://service.test;" in page.headers["content-security-policy"]


async def test_the_page_is_told_the_events_that_it_has_not_seen(browser: httpx.AsyncClient) -> None:
    assert (await browser.get("/sandbox/events")).json() == {"lines": ["one", "two"], "next": 2}
    assert (await browser.get("/sandbox/events?after=1")).json() == {"lines": ["two"], "next": 2}
    # One that has seen an earlier sandbox starts over.
    assert (await browser.get("/sandbox/events?after=9")).json() == {"lines": ["one", "two"], "next": 2}


async def test_a_session_that_has_ended_gets_expired_tokens_only(
    browser: httpx.AsyncClient, instance: Instance
) -> None:
    session = instance.sign_in("user_alice")
    assert (await browser.post(f"/sandbox/token?session_id={session.id}")).status_code == 200
    instance.end(session, "removed")
    for session_id in session.id, "sess_unknown":
        assert (await browser.post(f"/sandbox/token?session_id={session_id}")).status_code == 404
    claims = claims_of((await browser.post(f"/sandbox/token?expired=true&session_id={session.id}")).text)
    assert claims["sid"] == session.id
    assert claims["exp"] < time.time()


@pytest.mark.parametrize(
    ("method", "path", "code", "name"),
    [
        ("GET", "/v1/sessions?user_id=u&limit=501", "form_param_format_invalid", "limit"),
        ("GET", "/v1/sessions?user_id=", "form_param_missing", "user_id"),
        ("POST", "/sandbox/sign-in?user=alice", "form_param_unknown", "user"),
        ("POST", "/sandbox/token?claims=azp", "form_param_format_invalid", "claims"),
    ],
)
async def test_wrong_parameters_are_refused_by_name(
    browser: httpx.AsyncClient, method: str, path: str, code: str, name: str
) -> None:
    refused = await browser.request(method, path, headers=AUTHORIZED)
    (error,) = refused.json()["errors"]
    assert (refused.status_code, error["code"], error["meta"]) == (422, code, {"param_name": name})
    assert name in error["long_message"]


@pytest.mark.parametrize("authorization", [b"", b"Bearer sk_test_other", "Bearer ключ".encode()])
async def test_the_backend_api_wants_the_secret_key(browser: httpx.AsyncClient, authorization: bytes) -> None:
    for method, path in ("GET", "/v1/jwks"), ("GET", "/v1/sessions"), ("POST", "/v1/sessions/sess_1/revoke"):
        refused = await browser.request(method, path, headers=[(b"Authorization", authorization)])
        assert (refused.status_code, refused.json()["errors"][0]["code"]) == (401, "clerk_key_invalid")

"""The stand-in, held against Clerk's SDK and the service's own verifier."""

import base64
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from clerk_backend_api import Clerk, models

from service.clerk.keys import KeyRing
from service.clerk.verdict import Auth
from service.clerk.verifier import Verifier
from service.sandbox.app import create_sandbox
from service.sandbox.instance import Instance
from tests.sandbox.conftest import SECRET
from tests.support.signing import ISSUER, ORIGIN


@pytest.fixture
async def sdk(instance: Instance) -> AsyncIterator[Clerk]:
    transport = httpx.ASGITransport(create_sandbox(instance))
    async with httpx.AsyncClient(transport=transport) as client:
        with httpx.Client() as unused:
            yield Clerk(bearer_auth=SECRET, server_url="https://api.clerk.test/v1", client=unused, async_client=client)


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    return claims


async def test_its_tokens_verify_with_its_own_jwks_for_60_seconds(instance: Instance, sdk: Clerk) -> None:
    async def fetch() -> list[dict[str, object]]:
        return [key.model_dump() for key in (await sdk.jwks.get_jwks_async()).keys or ()]

    ring = KeyRing(fetch)
    assert await ring.refresh()
    session = instance.sign_in("user_alice")
    session.last_active_organization_id = "org_1"
    for age, auth in (0, Auth.VERIFIED), (66, Auth.EXPIRED):
        verifier = Verifier(ring, authorized_parties=[ORIGIN], issuers=[ISSUER])
        verdict = await verifier.verify([instance.session_token(session, ORIGIN, age=age).encode()])
        assert verdict.auth is auth
        who = verdict.identity
        assert who is not None
        assert (who.user_id, who.session_id, who.org_id) == ("user_alice", session.id, "org_1")


async def test_a_browser_signs_in_gets_tokens_and_signs_out(browser: httpx.AsyncClient, instance: Instance) -> None:
    assert (await browser.get("/v1/client")).json()["response"]["sessions"] == []
    (session,) = (await browser.post("/sandbox/sign-in?user_id=user_alice")).json()["response"]["sessions"]
    assert session["user_id"] == "user_alice"
    assert (await browser.post(f"/v1/client/sessions/{session['id']}/tokens")).json()["object"] == "token"
    signed_out = await browser.post("/v1/client/sessions?_method=DELETE")
    assert signed_out.json()["response"]["sessions"] == []
    ended = instance.session(session["id"])
    assert ended is not None
    assert ended.status == "removed"


async def test_another_browser_gets_no_token_of_a_session(browser: httpx.AsyncClient) -> None:
    (session,) = (await browser.post("/sandbox/sign-in")).json()["response"]["sessions"]
    browser.cookies.clear()
    assert (await browser.post(f"/v1/client/sessions/{session['id']}/tokens")).status_code == 404


async def test_a_token_can_be_had_with_other_claims(browser: httpx.AsyncClient) -> None:
    changes = {"azp": None, "aud": ["convex"], "sts": "pending", "act": {"sub": "agent_2", "type": "agent"}}
    claims = claims_of((await browser.post("/sandbox/token", params={"claims": json.dumps(changes)})).text)
    assert "azp" not in claims
    assert all(claims[name] == changes[name] for name in ("aud", "sts", "act"))


async def test_the_sdk_lists_sessions_newest_first_ten_by_default(instance: Instance, sdk: Clerk) -> None:
    sessions = [instance.sign_in("user_alice") for _ in range(12)]
    instance.sign_in("user_bob")
    first = await sdk.sessions.list_async(user_id="user_alice")
    rest = await sdk.sessions.list_async(user_id="user_alice", limit=500, offset=10)
    assert [session.id for session in [*first, *rest]] == [session.id for session in reversed(sessions)]
    assert len(first) == 10


async def test_an_unknown_session_is_not_found(sdk: Clerk) -> None:
    with pytest.raises(models.ClerkErrors) as refused:
        await sdk.sessions.revoke_async(session_id="sess_unknown")
    assert refused.value.status_code == 404
    assert refused.value.data.errors[0].code == "resource_not_found"


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
    assert (await browser.post(f"/sandbox/token?session_id={session.id}")).status_code == 404
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
    refused = await browser.request(method, path, headers={"Authorization": f"Bearer {SECRET}"})
    (error,) = refused.json()["errors"]
    assert (refused.status_code, error["code"], error["meta"]) == (422, code, {"param_name": name})
    assert name in error["long_message"]


@pytest.mark.parametrize("authorization", [b"", b"Bearer sk_test_other", "Bearer ключ".encode()])
async def test_the_backend_api_wants_the_secret_key(browser: httpx.AsyncClient, authorization: bytes) -> None:
    for method, path in ("GET", "/v1/jwks"), ("GET", "/v1/sessions"), ("POST", "/v1/sessions/sess_1/revoke"):
        refused = await browser.request(method, path, headers=[(b"Authorization", authorization)])
        assert (refused.status_code, refused.json()["errors"][0]["code"]) == (401, "clerk_key_invalid")

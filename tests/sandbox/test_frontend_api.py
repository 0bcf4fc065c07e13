"""Clerk's Frontend API, as clerk-js calls it; ``tests/browser`` has the real clerk-js do so."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc.jwk import RSAKey
from joserfc.jwt import JWTClaimsRegistry, decode

from service.sandbox.instance import COOKIE_SUFFIX, Instance, Session
from tests.sandbox.conftest import claims_of

ORIGIN = "http://localhost:3000"
SESSIONS = "/v1/client/sessions"


@pytest.fixture(autouse=True)
async def dev_browser(browser: httpx.AsyncClient) -> None:
    """Have the browser known by its ``__clerk_db_jwt``."""
    browser.headers["Origin"] = ORIGIN
    token = (await browser.post("/v1/dev_browser")).json()["token"]
    browser.params = httpx.QueryParams({"__clerk_db_jwt": token})


async def sign_in(browser: httpx.AsyncClient, instance: Instance, user_id: str = "user_2alice") -> Session:
    answer = (await browser.post("/v1/client/sign_ins", data={"identifier": user_id})).json()
    assert answer["response"]["status"] == "complete"
    session = instance.session(answer["response"]["created_session_id"])
    assert session is not None
    return session


def cookies_of(instance: Instance, answer: httpx.Response) -> dict[str, str]:
    """What a handshake sets."""
    (token,) = parse_qs(urlsplit(answer.headers["location"]).query)["__clerk_handshake"]
    claims = decode(token, RSAKey.import_key(instance.jwks()["keys"][0])).claims
    JWTClaimsRegistry().validate(claims)
    return dict(cookie.split(";")[0].split("=", 1) for cookie in claims["handshake"])


async def test_a_page_of_this_machine_may_call_it_and_no_other(browser: httpx.AsyncClient) -> None:
    answer = await browser.post("/v1/environment", params={"_method": "PATCH"})
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert answer.headers["access-control-allow-credentials"] == "true"
    elsewhere = await browser.get("/v1/client", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in elsewhere.headers


async def test_signing_in_adds_a_session_with_user_and_token(browser: httpx.AsyncClient, instance: Instance) -> None:
    signed_in = await sign_in(browser, instance)
    client: dict[str, Any] = (await browser.get("/v1/client")).json()["response"]
    (session,) = client["sessions"]
    user = session["user"]
    assert (session["id"], user["id"]) == (signed_in.id, "user_2alice")
    assert user["primary_email_address_id"] == user["email_addresses"][0]["id"], "or <UserButton> shows nobody"
    assert client["last_active_session_id"] == signed_in.id
    assert session["last_active_token"]["jwt"].count(".") == 2


async def test_a_touch_switches_the_organization(browser: httpx.AsyncClient, instance: Instance) -> None:
    session = await sign_in(browser, instance)
    for form, organization in (
        ({"active_organization_id": "org_sandbox"}, "org_sandbox"),
        ({"intent": "focus"}, "org_sandbox"),
        ({"active_organization_id": ""}, None),
    ):
        await browser.post(f"{SESSIONS}/{session.id}/touch", data=form)
        token = (await browser.post(f"{SESSIONS}/{session.id}/tokens")).json()["jwt"]
        assert claims_of(token).get("o", {}).get("id") == organization


@pytest.mark.parametrize(("action", "status"), [("remove", "removed"), ("end", "ended")])
async def test_one_session_ends_and_another_stays(
    browser: httpx.AsyncClient, instance: Instance, action: str, status: str
) -> None:
    first, second = await sign_in(browser, instance), await sign_in(browser, instance, "user_2bob")
    answer = (await browser.post(f"{SESSIONS}/{first.id}/{action}")).json()
    assert answer["response"]["status"] == status
    assert [session["id"] for session in answer["client"]["sessions"]] == [second.id]
    refused = await browser.post(f"{SESSIONS}/{first.id}/tokens")
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (401, "signed_out")


async def test_a_password_renews_the_age_of_the_factor(browser: httpx.AsyncClient, instance: Instance) -> None:
    session = await sign_in(browser, instance)
    session.created_at -= 3_600_000
    begun = (await browser.post(f"{SESSIONS}/{session.id}/verify")).json()["response"]
    assert (begun["status"], instance.factor_age(session)) == ("needs_first_factor", [60, -1])
    done = (await browser.post(f"{SESSIONS}/{session.id}/verify/attempt_first_factor")).json()["response"]
    assert (done["status"], instance.factor_age(session)) == ("complete", [0, -1])


async def test_a_user_signs_another_device_out_and_nobody_else(browser: httpx.AsyncClient, instance: Instance) -> None:
    here, there, stranger = await sign_in(browser, instance), *map(instance.sign_in, ("user_2alice", "user_2bob"))
    own = {"_clerk_session_id": here.id}
    devices = (await browser.get("/v1/me/sessions/active", params=own)).json()
    assert {device["id"] for device in devices} == {here.id, there.id}
    await browser.post(f"/v1/me/sessions/{there.id}/revoke", params=own)
    refused = await browser.post(f"/v1/me/sessions/{stranger.id}/revoke", params=own)
    assert (refused.status_code, there.status, stranger.status) == (404, "revoked", "active")
    assert (await browser.get("/v1/me/sessions/active", params={"_clerk_session_id": stranger.id})).json() == []


async def test_a_handshake_brings_the_cookies_of_the_session(browser: httpx.AsyncClient, instance: Instance) -> None:
    await sign_in(browser, instance)
    answer = await browser.get("/v1/client/handshake", params={"redirect_url": f"{ORIGIN}/dashboard"})
    assert answer.status_code == 307
    cookies = cookies_of(instance, answer)
    assert cookies["__session"] == cookies[f"__session_{COOKIE_SUFFIX}"]
    assert cookies["__session"].count(".") == 2


async def test_a_handshake_of_a_new_browser_signs_out(browser: httpx.AsyncClient, instance: Instance) -> None:
    browser.params = httpx.QueryParams()
    cookies = cookies_of(instance, await browser.get("/v1/client/handshake", params={"redirect_url": ORIGIN}))
    assert (cookies["__session"], cookies["__client_uat"]) == ("", "0")
    assert cookies["__clerk_db_jwt"].startswith("dvb_")


async def test_clerk_js_comes_from_its_package(browser: httpx.AsyncClient) -> None:
    assert (await browser.get("/npm/@clerk/clerk-js@6/dist/clerk.browser.js")).text == "clerk-js"
    assert (await browser.get("/npm/@clerk/clerk-js@6/dist/..%2F..%2F..%2Fsecret")).status_code == 404
    assert (await browser.get("/npm/@clerk/ui@1/dist/ui.browser.js")).status_code == 404

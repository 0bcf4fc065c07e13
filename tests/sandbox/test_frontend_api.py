"""Clerk's Frontend API, as clerk-js calls it; ``tests/browser`` has the real clerk-js do so."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc.jwk import RSAKey
from joserfc.jwt import JWTClaimsRegistry, decode

from service.sandbox.app import create_sandbox
from service.sandbox.instance import COOKIE_SUFFIX, Instance

ORIGIN = "http://localhost:3000"
SESSIONS = "/v1/client/sessions"


@pytest.fixture
async def browser(instance: Instance, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A browser without cookies, which is known by its ``__clerk_db_jwt``."""
    (tmp_path / "clerk-js" / "dist").mkdir(parents=True)
    (tmp_path / "clerk-js" / "dist" / "clerk.browser.js").write_text("clerk-js", "utf-8")
    transport = httpx.ASGITransport(create_sandbox(instance, packages=tmp_path))
    async with httpx.AsyncClient(
        transport=transport, base_url="http://clerk.test", headers={"Origin": ORIGIN}
    ) as client:
        token = (await client.post("/v1/dev_browser")).json()["token"]
        client.params = httpx.QueryParams({"__clerk_db_jwt": token})
        yield client


async def sign_in(browser: httpx.AsyncClient, user_id: str = "user_2alice") -> str:
    """Sign a user in; give the session's id."""
    answer = (await browser.post("/v1/client/sign_ins", data={"identifier": user_id})).json()
    assert answer["response"]["status"] == "complete"
    return str(answer["response"]["created_session_id"])


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


async def test_signing_in_adds_a_session_with_user_and_token(browser: httpx.AsyncClient) -> None:
    session_id = await sign_in(browser)
    client: dict[str, Any] = (await browser.get("/v1/client")).json()["response"]
    (session,) = client["sessions"]
    assert (session["id"], session["user"]["id"]) == (session_id, "user_2alice")
    assert client["last_active_session_id"] == session_id
    assert session["last_active_token"]["jwt"].count(".") == 2


async def test_a_touch_switches_the_organization(browser: httpx.AsyncClient, instance: Instance) -> None:
    session_id = await sign_in(browser)
    session = instance.session(session_id)
    assert session is not None
    await browser.post(f"{SESSIONS}/{session_id}/touch", data={"active_organization_id": "org_sandbox"})
    assert session.last_active_organization_id == "org_sandbox"
    await browser.post(f"{SESSIONS}/{session_id}/touch", data={"intent": "focus"})
    assert session.last_active_organization_id == "org_sandbox"
    await browser.post(f"{SESSIONS}/{session_id}/touch", data={"active_organization_id": ""})
    assert session.last_active_organization_id is None


@pytest.mark.parametrize(("action", "status"), [("remove", "removed"), ("end", "ended")])
async def test_one_session_ends_and_another_stays(browser: httpx.AsyncClient, action: str, status: str) -> None:
    first, second = await sign_in(browser), await sign_in(browser, "user_2bob")
    answer = (await browser.post(f"{SESSIONS}/{first}/{action}")).json()
    assert answer["response"]["status"] == status
    assert [session["id"] for session in answer["client"]["sessions"]] == [second]
    refused = await browser.post(f"{SESSIONS}/{first}/tokens")
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (401, "signed_out")


async def test_a_password_renews_the_age_of_the_factor(browser: httpx.AsyncClient, instance: Instance) -> None:
    session_id = await sign_in(browser)
    session = instance.session(session_id)
    assert session is not None
    session.created_at -= 3_600_000
    begun = (await browser.post(f"{SESSIONS}/{session_id}/verify")).json()["response"]
    assert (begun["status"], instance.factor_age(session)) == ("needs_first_factor", [60, -1])
    done = (await browser.post(f"{SESSIONS}/{session_id}/verify/attempt_first_factor")).json()["response"]
    assert (done["status"], instance.factor_age(session)) == ("complete", [0, -1])


async def test_a_user_signs_another_device_out_and_nobody_else(browser: httpx.AsyncClient, instance: Instance) -> None:
    here, there = await sign_in(browser), instance.sign_in("user_2alice")
    own = {"_clerk_session_id": here}
    devices = (await browser.get("/v1/me/sessions/active", params=own)).json()
    assert {device["id"] for device in devices} == {here, there.id}
    await browser.post(f"/v1/me/sessions/{there.id}/revoke", params=own)
    assert there.status == "revoked"
    stranger = instance.sign_in("user_2bob")
    refused = await browser.post(f"/v1/me/sessions/{stranger.id}/revoke", params=own)
    assert (refused.status_code, stranger.status) == (404, "active")
    as_stranger = await browser.get("/v1/me/sessions/active", params={"_clerk_session_id": stranger.id})
    assert as_stranger.json() == []


async def test_a_handshake_brings_the_cookies_of_the_session(browser: httpx.AsyncClient, instance: Instance) -> None:
    await sign_in(browser)
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

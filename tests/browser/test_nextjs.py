"""The files of ``deploy/nextjs`` in a real application: real ``@clerk/nextjs``, real clerk-js, real service, real browser."""

import asyncio

import httpx
import pytest
from playwright.async_api import expect

from service.sandbox.instance import Session
from tests.browser.stage import Stage, Visit

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

SETTLED = 0.5
"""Seconds after which no further event of a logout comes."""


async def click(visit: Visit, name: str) -> None:
    await visit.page.get_by_role("button", name=name, exact=True).click()


async def signed_out(visit: Visit) -> None:
    await visit.page.wait_for_url("**/sign-in*")


async def each_once(stage: Stage, sessions: list[Session], *verdicts: str) -> None:
    """Each session has exactly one event, with its identity."""
    for session in sessions:
        await stage.event(session)
    await asyncio.sleep(SETTLED)
    for session in sessions:
        (event,) = stage.events(session)
        assert event["auth"] in (verdicts or ["verified"])
        assert event["user_id"] == session.user_id


async def test_the_button_signs_out_and_leaves_nothing_behind(stage: Stage) -> None:
    async def scenario(visit: Visit) -> None:
        await visit.page.get_by_label("A note").fill("a secret")
        token = await visit.page.evaluate("Clerk.session.getToken()")
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=stage.urls["well"], headers=headers, trust_env=False) as client:
            assert (await client.get("/v1/auth/session")).status_code == 200
            await click(visit, "Log out")
            await signed_out(visit)
            await visit.event()
            assert (await client.get("/v1/auth/session")).status_code == 401
        assert await visit.cookies() == set()
        assert await visit.page.evaluate("localStorage.note") is None
        assert visit.session.status == "removed"
        await visit.page.goto(f"{stage.app_url}/dashboard")
        await signed_out(visit)
        await visit.page.go_back()
        await expect(visit.page.get_by_text(visit.session.id)).to_have_count(0)

    await each_once(stage, await stage.many(scenario))


async def open_user_button(visit: Visit) -> None:
    await visit.page.get_by_role("button", name="Open user menu").click()
    await visit.page.get_by_role("menuitem", name="Sign out", exact=True).click()
    await signed_out(visit)


async def clerks_button(visit: Visit) -> None:
    await click(visit, "Sign out with Clerk")
    await signed_out(visit)


async def own_code(visit: Visit) -> None:
    await click(visit, "Call signOut()")
    await signed_out(visit)


async def session_end(visit: Visit) -> None:
    await visit.page.evaluate("Clerk.session.end()")


@pytest.mark.parametrize("way", [open_user_button, clerks_button, own_code, session_end])
async def test_the_recorder_hears(stage: Stage, way) -> None:
    await each_once(stage, await stage.many(way))

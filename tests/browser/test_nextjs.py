"""The files of ``deploy/nextjs`` in a real application, with real clerk-js, the real service and a real browser."""

import asyncio
import statistics
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import CDPSession, Page, expect
from playwright.async_api import TimeoutError as NotInTime

from service.sandbox.instance import Session
from tests.browser.example import EXAMPLE
from tests.browser.stage import TRIES, Stage, Visit, Way

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

SETTLED = 0.5
"""Seconds after which no further event of a logout comes."""
ASLEEP = 72.0
"""Seconds: longer than a token lives."""
CLERK_MEANWHILE = ("well", "500", "reset", "hang", "revoked")
"""What has happened to Clerk when a tab wakes up: its token endpoint, or the session."""


@dataclass
class Sleeper:
    """A tab that sleeps; only the debugger stops clerk-js's timers in a headless Chromium."""

    visit: Visit
    debugger: CDPSession
    meanwhile: str
    since: float = field(default_factory=time.monotonic)

    async def wake_up_and_sign_out(self) -> None:
        await asyncio.sleep(max(self.since + ASLEEP - time.monotonic(), 0))
        await self.debugger.send("Debugger.resume")
        await self.debugger.send("Debugger.disable")
        start = time.monotonic()
        with suppress(NotInTime):  # of a session that was revoked, clerk-js may know before the click
            await self.visit.page.get_by_role("button", name="Log out").click(timeout=1500)
        await signed_out(self.visit.page)
        assert time.monotonic() - start < 2, self.meanwhile


@pytest_asyncio.fixture(scope="session", loop_scope="session", autouse=True)
async def sleepers(stage: Stage, request: pytest.FixtureRequest) -> AsyncIterator[list[Sleeper]]:
    """Tabs that sleep while the other tests run."""
    async with AsyncExitStack() as stack:

        async def fall_asleep(meanwhile: str) -> Sleeper:
            options: dict[str, Any] = {
                "expected_errors": ["Clerk", "fetch", "Loading chunk"],
                "everyEnd": meanwhile == "revoked",
            }
            async with few:
                visit = await stack.enter_async_context(stage.visit(**options))
            debugger = await visit.context.new_cdp_session(visit.page)
            await debugger.send("Debugger.enable")
            await debugger.send("Debugger.pause")
            if meanwhile == "revoked":
                stage.clerk.instance.end(visit.session, "revoked")
            elif meanwhile != "well":
                visit.trouble.tokens = meanwhile
            return Sleeper(visit, debugger, meanwhile)

        few = asyncio.Semaphore(4)
        wanted = any("slept" in item.name for item in request.session.items)
        yield await asyncio.gather(
            *(fall_asleep(meanwhile) for meanwhile in CLERK_MEANWHILE for _ in range(TRIES if wanted else 0))
        )


async def click(visit: Visit, name: str) -> None:
    await visit.page.get_by_role("button", name=name, exact=True).click()


async def signed_out(page: Page) -> None:
    await page.wait_for_url("**/sign-in*")


async def recorded(visit: Visit) -> None:
    """Signed out, and on record: closing a context ends what a browser that goes on would still send."""
    await signed_out(visit.page)
    await visit.stage.event(visit.session)


async def each_once(stage: Stage, sessions: list[Session], *verdicts: str) -> None:
    """Each session has exactly one event, with its identity."""
    for session in sessions:
        await stage.event(session)
    await asyncio.sleep(SETTLED)
    for session in sessions:
        events = stage.events(session)
        assert len(events) == 1, events
        assert events[0]["auth"] in (verdicts or ["verified"])
        assert events[0]["user_id"] == session.user_id


async def none_of(stage: Stage, sessions: list[Session]) -> None:
    await asyncio.sleep(SETTLED)
    assert [event for session in sessions for event in stage.events(session)] == []


# --- The button, and what a logout leaves behind ----------------------------------------------------------------------


async def test_the_button_signs_out_and_leaves_nothing_behind(stage: Stage) -> None:
    async def scenario(visit: Visit) -> None:
        await visit.page.get_by_label("A note").fill("a secret")
        token = await visit.page.evaluate("Clerk.session.getToken()")
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=stage.urls["well"], headers=headers, trust_env=False) as client:
            assert (await client.get("/v1/auth/session")).status_code == 200
            await click(visit, "Log out")
            await signed_out(visit.page)
            await stage.event(visit.session)
            assert (await client.get("/v1/auth/session")).status_code == 401
        assert await visit.session_cookies() == set()
        assert await visit.page.evaluate("localStorage.note") is None
        assert visit.session.status == "removed"
        await visit.page.goto(f"{stage.app_url}/dashboard")
        await signed_out(visit.page)
        await visit.page.go_back()
        await expect(visit.page.get_by_text(visit.session.id)).to_have_count(0)

    await each_once(stage, await stage.many(scenario))


async def test_everything_works_by_keyboard_alone(stage: Stage) -> None:
    async with stage.browser_context() as context:
        page = await context.new_page()
        await page.goto(f"{stage.app_url}/sign-in")
        await expect(page.get_by_role("button", name="Sign in")).to_be_enabled()

        async def press_on(name: str) -> None:
            button = page.get_by_role("button", name=name, exact=True)
            for _ in range(20):
                await page.keyboard.press("Tab")
                if await button.evaluate("button => button === document.activeElement"):
                    break
            assert await button.evaluate("button => getComputedStyle(button).outlineStyle") == "solid"
            await page.keyboard.press("Enter")

        await press_on("Sign in")
        await page.wait_for_url("**/dashboard")
        await expect(page.get_by_role("button", name="Log out")).to_be_visible()
        await press_on("Log out")
        await signed_out(page)


async def test_the_button_is_busy_and_keeps_the_focus_meanwhile(stage: Stage) -> None:
    async with stage.visit() as visit:
        visit.trouble.sign_out_delay = 0.5
        button = visit.page.get_by_role("button", name="Log out")
        await button.click()
        await expect(button).to_have_attribute("aria-busy", "true")
        await expect(button).to_be_focused()
        await signed_out(visit.page)


async def test_where_clerk_fails_the_button_can_be_pressed_again(stage: Stage) -> None:
    async with stage.visit(expected_errors=["Internal Server Error"]) as visit:
        visit.trouble.sign_out = "500"
        await click(visit, "Log out")
        await expect(visit.page.get_by_role("button", name="Log out")).to_have_attribute("aria-busy", "false")
        visit.trouble.sign_out = ""
        await click(visit, "Log out")
        await signed_out(visit.page)
    await each_once(stage, [visit.session])


# --- The recorder hears whichever button ------------------------------------------------------------------------------


async def user_button(visit: Visit) -> None:
    menu = visit.page.get_by_role("button", name="Open user menu", exact=True)
    try:
        await menu.wait_for(timeout=5_000)
    except NotInTime:  # rarely, on a busy machine, Clerk's component is not shown; nothing has been signed out yet
        await visit.page.reload()
    await menu.click()
    await visit.page.get_by_text("Sign out", exact=True).click()
    await recorded(visit)


async def clerks_button(visit: Visit) -> None:
    await click(visit, "Sign out with Clerk")
    await recorded(visit)


async def own_code(visit: Visit) -> None:
    await click(visit, "Call signOut()")
    await recorded(visit)


async def session_end(visit: Visit) -> None:
    await visit.page.evaluate("Clerk.session.end()")
    await visit.stage.event(visit.session)


async def session_remove(visit: Visit) -> None:
    await visit.page.evaluate("Clerk.session.remove()")
    await visit.stage.event(visit.session)


@pytest.mark.parametrize("way", [user_button, clerks_button, session_end, session_remove])
async def test_the_recorder_hears(stage: Stage, way: Way) -> None:
    await each_once(stage, await stage.many(way))


async def test_the_recorder_hears_all_of_several_sessions(stage: Stage) -> None:
    everybody: list[Session] = []

    async def scenario(visit: Visit) -> None:
        everybody.extend(stage.sessions(visit))
        await own_code(visit)
        await asyncio.gather(*(stage.event(session) for session in stage.sessions(visit)))

    await stage.many(scenario, sessions=2)
    assert len(everybody) == 2 * TRIES
    await each_once(stage, everybody)


@pytest.mark.parametrize("current", [True, False])
async def test_the_recorder_hears_one_of_several_sessions(stage: Stage, current: bool) -> None:
    ended: list[Session] = []
    others: list[Session] = []

    async def scenario(visit: Visit) -> None:
        chosen, other = visit.session, stage.sessions(visit)[1]
        if not current:
            chosen, other = other, chosen
        await visit.page.evaluate("id => Clerk.signOut({ sessionId: id })", chosen.id)
        await visit.page.wait_for_function("Clerk.client.signedInSessions.length === 1")
        await stage.event(chosen)
        ended.append(chosen)
        others.append(other)

    await stage.many(scenario, sessions=2)
    await each_once(stage, ended)
    await none_of(stage, others)


@pytest.mark.parametrize("every_end", [False, True])
async def test_a_sign_out_in_one_of_two_tabs_is_recorded_once(stage: Stage, every_end: bool) -> None:
    async def scenario(visit: Visit) -> None:
        other = await another_tab(visit)
        await clerks_button(visit)
        await signed_out(other)

    await each_once(stage, await stage.many(scenario, everyEnd=every_end))


async def another_tab(visit: Visit) -> Page:
    page = await visit.context.new_page()
    await page.goto(visit.page.url)
    await page.wait_for_function("window.Clerk?.session")
    return page


async def revoked(visit: Visit) -> None:
    visit.stage.clerk.instance.end(visit.session, "revoked")
    await focus(visit)


async def focus(visit: Visit) -> None:
    """Come back to the tab: clerk-js asks Clerk how the session is."""
    await visit.page.evaluate("window.dispatchEvent(new Event('focus'))")
    await signed_out(visit.page)


async def test_an_end_elsewhere_is_recorded_with_every_end(stage: Stage) -> None:
    await each_once(stage, await stage.many(revoked, everyEnd=True))


async def test_an_end_elsewhere_clears_the_page_and_is_left_to_the_webhook(stage: Stage) -> None:
    async def scenario(visit: Visit) -> None:
        await visit.page.get_by_label("A note").fill("a secret")
        await revoked(visit)
        assert await visit.page.evaluate("localStorage.note") is None

    await none_of(stage, await stage.many(scenario, tries=5))


async def switch(visit: Visit) -> None:
    other = next(session for session in visit.stage.sessions(visit) if session is not visit.session)
    await visit.page.evaluate("id => Clerk.setActive({ session: id })", other.id)
    assert await visit.page.evaluate("Clerk.session.id") == other.id


async def switch_organization(visit: Visit) -> None:
    await visit.page.evaluate("Clerk.setActive({ organization: 'org_sandbox' })")
    assert visit.session.last_active_organization_id == "org_sandbox"


async def set_inactive(visit: Visit) -> None:
    await visit.page.evaluate("Clerk.setActive({ session: null })")


async def sign_out_that_fails(visit: Visit) -> None:
    visit.trouble.sign_out = "500"
    assert await visit.page.evaluate("Clerk.signOut().then(() => 'done', () => 'failed')") == "failed"


@pytest.mark.parametrize("what", [switch, switch_organization, set_inactive, sign_out_that_fails])
async def test_what_is_no_logout_is_not_recorded(stage: Stage, what: Way) -> None:
    async def scenario(visit: Visit) -> None:
        sessions.extend(stage.sessions(visit))
        await what(visit)

    sessions: list[Session] = []
    await stage.many(scenario, tries=5, sessions=2, everyEnd=True)
    await none_of(stage, sessions)


async def test_a_page_load_while_signed_out_is_not_recorded(stage: Stage) -> None:
    before = stage.count("absent")
    async with stage.browser_context(everyEnd=True) as context:
        page = await context.new_page()
        await page.goto(f"{stage.app_url}/sign-in")
        await page.wait_for_function("window.Clerk?.loaded")
        await asyncio.sleep(SETTLED)
    assert stage.count("absent") == before


# --- Nothing is lost with the button ----------------------------------------------------------------------------------


@pytest.mark.parametrize("button", ["Log out", "Call signOut()"])
async def test_a_slow_preflight_and_leaving_for_another_origin_lose_nothing(stage: Stage, button: str) -> None:
    async def scenario(visit: Visit) -> None:
        await click(visit, button)
        await visit.page.wait_for_url(stage.urls["elsewhere"])
        await stage.event(visit.session)

    url, elsewhere = stage.urls["slow preflight"], stage.urls["elsewhere"]
    await each_once(stage, await stage.many(scenario, url=url, redirectUrl=elsewhere))


@pytest.mark.parametrize("delay", [0.0, 0.5])
async def test_closing_the_tab_at_once_loses_nothing(stage: Stage, delay: float) -> None:
    async def scenario(visit: Visit) -> None:
        visit.trouble.sign_out_delay = delay
        await close_after(visit, "Log out")
        await stage.event(visit.session)

    await each_once(stage, await stage.many(scenario))


async def test_the_recorder_alone_loses_a_page_that_is_gone_before_clerk_answers(stage: Stage) -> None:
    """What the button is for. Without a delay of Clerk's it depends on who is faster."""

    async def scenario(visit: Visit) -> None:
        visit.trouble.sign_out_delay = 0.5
        await close_after(visit, "Call signOut()")
        await asyncio.sleep(1)  # closing the last page of the browser would end what it still sends

    await none_of(stage, await stage.many(scenario))


async def close_after(visit: Visit, button: str) -> None:
    await click(visit, button)
    await asyncio.sleep(0.05)
    await visit.page.close()


async def test_a_second_click_records_nothing_more(stage: Stage) -> None:
    async def scenario(visit: Visit) -> None:
        await visit.page.get_by_role("button", name="Log out").dblclick()
        await recorded(visit)

    await each_once(stage, await stage.many(scenario))


async def test_the_button_in_two_tabs_at_once_records_once(stage: Stage) -> None:
    async def scenario(visit: Visit) -> None:
        other = await another_tab(visit)
        buttons = [page.get_by_role("button", name="Log out") for page in (visit.page, other)]
        await asyncio.gather(*(button.dispatch_event("click") for button in buttons))
        await asyncio.gather(recorded(visit), signed_out(other))

    await each_once(stage, await stage.many(scenario))


# --- Clerk or the service in trouble ----------------------------------------------------------------------------------


async def test_a_service_in_trouble_delays_no_sign_out(stage: Stage) -> None:
    took: dict[str, list[float]] = {
        trouble: [] for trouble in ("well", "refused", "hanging", "failing", "without CORS")
    }

    async with AsyncExitStack() as stack:
        browsers = {
            trouble: await stack.enter_async_context(stage.browser_context(url=stage.urls[trouble])) for trouble in took
        }
        for _ in range(5):
            for trouble, context in browsers.items():
                await context.clear_cookies()
                visit = await stage.enter(context)
                start = time.monotonic()
                await click(visit, "Log out")
                await signed_out(visit.page)
                took[trouble].append(time.monotonic() - start)
                await visit.page.close()
    medians = {trouble: statistics.median(times) for trouble, times in took.items()}
    assert max(medians.values()) - medians["well"] < 0.2, medians


WARNINGS = {
    "refused": "cannot be reached",
    "hanging": "has not answered for 5 s",
    "failing": "answered 500",
    "missing": "answered 404",
    "without CORS": "add that to CLERK_AUTHORIZED_PARTIES",
}


async def test_in_development_a_call_that_fails_is_explained(stage: Stage) -> None:
    async def scenario(trouble: str, text: str) -> None:
        async with few, stage.visit(dev=True, url=stage.urls[trouble]) as visit:
            async with visit.page.expect_console_message(
                lambda message: message.text.startswith("clerk-logout: "), timeout=15_000
            ) as waiting:
                await click(visit, "Log out")
            warning = await waiting.value
            assert warning.type == "warning"
            assert text in warning.text

    few = asyncio.Semaphore(4)
    await asyncio.gather(*(scenario(trouble, text) for trouble, text in WARNINGS.items()))


async def test_in_production_a_call_that_fails_is_silent(stage: Stage) -> None:
    for trouble in ("refused", "without CORS"):
        async with stage.visit(url=stage.urls[trouble]) as visit:
            await click(visit, "Log out")
            await signed_out(visit.page)
            await asyncio.sleep(SETTLED)
            assert [text for text in visit.warnings if "clerk-logout" in text] == []


async def test_offline_nothing_of_ours_makes_it_worse(stage: Stage) -> None:
    """The user waits for Clerk, and once online again a click signs out and is recorded."""
    async with stage.visit(expected_errors=["Failed to fetch", "Loading chunk"]) as visit:
        button = visit.page.get_by_role("button", name="Log out")
        await visit.context.set_offline(offline=True)
        await button.click()
        await asyncio.sleep(2)
        await expect(button).to_have_attribute("aria-busy", "true")
        await visit.context.set_offline(offline=False)
        await visit.page.reload()
        await click(visit, "Log out")
        await signed_out(visit.page)
    await each_once(stage, [visit.session])


# --- The same origin --------------------------------------------------------------------------------------------------


async def test_through_a_rewrite_the_logout_is_recorded(stage: Stage) -> None:
    await each_once(stage, await stage.many(own_code, url="/"))


async def test_through_a_rewrite_the_cookie_is_enough_and_is_expired(stage: Stage) -> None:
    async def scenario(visit: Visit) -> None:
        assert len(await visit.session_cookies()) >= 2
        await visit.page.evaluate("fetch('/v1/auth/session', { method: 'DELETE', keepalive: true })")
        assert await visit.session_cookies() == set()

    await each_once(stage, await stage.many(scenario), "verified", "expired")


# --- Sign out everywhere ----------------------------------------------------------------------------------------------


async def test_sign_out_everywhere_ends_the_session_of_another_browser(stage: Stage) -> None:
    async def scenario(visit: Visit) -> None:
        async with stage.visit(user_id=visit.session.user_id) as other:
            await click(visit, "Sign out everywhere")
            await expect(visit.page.get_by_role("status")).to_have_text("Signed out of 1 session.")
            assert other.session.status == "revoked"
            await focus(other)
        assert visit.session.status == "active"
        assert (await stage.event(visit.session, "user_logout_everywhere"))["revoked_sessions"] == 1

    await stage.many(scenario, at_once=3)


async def test_a_stale_factor_leads_through_clerks_reverification(stage: Stage) -> None:
    async with stage.visit() as visit, stage.visit(user_id=visit.session.user_id) as other:
        visit.session.created_at -= 3_600_000
        await click(visit, "Sign out everywhere")
        await visit.page.locator("input[type=password]").fill("anything")
        await visit.page.keyboard.press("Enter")
        await expect(visit.page.get_by_role("status")).to_have_text("Signed out of 1 session.")
        assert other.session.status == "revoked"


async def test_a_reverification_that_is_cancelled_changes_nothing(stage: Stage) -> None:
    async with stage.visit() as visit, stage.visit(user_id=visit.session.user_id) as other:
        visit.session.created_at -= 3_600_000
        await click(visit, "Sign out everywhere")
        await click(visit, "Close modal")
        await expect(visit.page.get_by_role("status")).to_have_text("Nothing was changed.")
        assert other.session.status == "active"


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        ("refused", "The server could not be reached. Try again later."),
        ("without CORS", "The server could not be reached. Try again later."),
        ("failing", "This did not work. Your sessions go on."),
    ],
)
async def test_where_signing_out_everywhere_fails_the_user_is_told(stage: Stage, trouble: str, words: str) -> None:
    async with stage.visit(url=stage.urls[trouble]) as visit:
        await click(visit, "Sign out everywhere")
        await expect(visit.page.get_by_role("status")).to_have_text(words)


# --- Negative controls: what the files are for ------------------------------------------------------------------------


async def test_a_token_that_is_asked_for_after_sign_out_is_absent(stage: Stage) -> None:
    async def scenario(visit: Visit) -> None:
        call = """async (url) => {
            await Clerk.signOut();
            const token = await Clerk.session?.getToken();
            const headers = token ? { Authorization: `Bearer ${token}` } : {};
            await fetch(`${url}/v1/auth/session`, { method: "DELETE", headers, keepalive: true });
        }"""
        await visit.page.evaluate(call, stage.urls["well"])

    before = stage.count("absent")
    sessions = await stage.many(scenario, url=stage.urls["refused"])
    assert stage.count("absent") == before + TRIES
    await none_of(stage, sessions)


async def test_without_keepalive_a_slow_preflight_loses_the_event(stage: Stage) -> None:
    async def scenario(visit: Visit) -> None:
        call = """async ([url, redirectUrl]) => {
            const headers = { Authorization: `Bearer ${await Clerk.session.getToken()}` };
            fetch(`${url}/v1/auth/session`, { method: "DELETE", headers }).catch(() => {});
            Clerk.signOut({ redirectUrl });
        }"""
        await visit.page.evaluate(call, [stage.urls["slow preflight"], stage.urls["elsewhere"]])
        await visit.page.wait_for_url(stage.urls["elsewhere"])
        await asyncio.sleep(2)

    await none_of(stage, await stage.many(scenario, url=stage.urls["refused"]))


# --- A tab that slept, last, so that it has slept for long ------------------------------------------------------------


@pytest.mark.parametrize("meanwhile", CLERK_MEANWHILE)
async def test_a_tab_that_slept_signs_out_at_once(stage: Stage, sleepers: list[Sleeper], meanwhile: str) -> None:
    woken = [sleeper for sleeper in sleepers if sleeper.meanwhile == meanwhile]
    waking = []
    for sleeper in woken:
        waking.append(asyncio.create_task(sleeper.wake_up_and_sign_out()))
        await asyncio.wait(waking[-1:], timeout=1)  # while one waits for a token, the next wakes up
    await asyncio.gather(*waking)
    assert len(woken) == TRIES
    await each_once(stage, [sleeper.visit.session for sleeper in woken], "verified", "expired")


# --- The files themselves ---------------------------------------------------------------------------------------------


async def test_the_files_hold_to_the_strict_compiler() -> None:
    done = await asyncio.to_thread(
        subprocess.run, ["npm", "run", "--silent", "types"], cwd=EXAMPLE, capture_output=True, text=True
    )
    assert done.stdout == ""
    assert done.returncode == 0

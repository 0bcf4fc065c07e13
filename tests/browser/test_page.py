"""The sandbox's page in a real Chromium, driven by Playwright. No request may leave the machine."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from tests.support.debian import need
from tests.support.processes import TIMEOUT
from tests.support.sandbox import Sandbox, start_sandbox

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # The first two are pages behind each address bar, as dear as the page under test; the rest is of the list that
    # Playwright gives, which this one replaces.
    "--disable-features=WebUIOmniboxPopup,WebUIOmniboxAimPopup,DestroyProfileOnBrowserClose,HttpsUpgrades,PaintHolding",
]
PHONE = {"width": 390, "height": 844}
expect.set_options(timeout=1000 * TIMEOUT)
NOTE = "One logout, two lines"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = need("chromium", "chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with start_sandbox() as sandbox:
        yield sandbox


@contextmanager
def opened(browser: Browser, sandbox: Sandbox, **options: Any) -> Iterator[Page]:
    """The page, in a browser without a past; a request to another host or an error in the page fails the test."""
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"], **options)
    page = context.new_page()
    hosts: set[str | None] = set()
    errors: list[str] = []
    page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(sandbox.clerk_url)
    yield page
    assert hosts - {None} == {"127.0.0.1"}
    assert errors == []
    context.close()


@pytest.fixture
def page(browser: Browser, sandbox: Sandbox) -> Iterator[Page]:
    """The page after signing in as somebody whom no other test signs in."""
    with opened(browser, sandbox) as page:
        sign_in(page)
        yield page


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


def sign_in(page: Page, user_id: str = "user_2alice") -> None:
    page.get_by_label("User id").fill(user_id)
    button(page, "Sign in").click()
    expect(page.locator("#who")).to_contain_text(f"{user_id} is signed in.")


def log_out(page: Page) -> None:
    session = page.locator("#who code").nth(1).inner_text()
    button(page, "Log out").click()
    expect(page.get_by_role("status")).to_contain_text("is logged out")
    expect_pair(page, session)


def expect_pair(page: Page, session: str) -> None:
    """The newest events are the two lines of this session's logout."""
    expect(rows(page).locator("td.session")).to_have_text([session, session])
    expect(page.locator("tbody").first.get_by_text(NOTE)).to_be_visible()


def rows(page: Page) -> Locator:
    """The events of the newest logout, one row each."""
    return page.locator("tbody").first.locator("tr:not(.note):not(.raw)")


def expect_row(row: Locator, event: str, verdict: str) -> None:
    expect(row.locator("td.event code")).to_have_text(event)
    expect(row.locator("td.verdict")).to_have_text(re.compile(verdict))


def raw(row: Locator) -> dict[str, Any]:
    """The event itself, as the row shows it on demand."""
    row.get_by_role("button").click()
    line = row.locator("xpath=following-sibling::tr[1]/td/pre").inner_text()
    row.get_by_role("button").click()
    event: dict[str, Any] = json.loads(line)
    return event


def test_the_path_by_mouse_ends_with_both_lines_of_the_logout(page: Page) -> None:
    log_out(page)
    expect(page.get_by_role("status")).to_contain_text("DELETE /v1/auth/session: 200")
    expect(rows(page)).to_have_count(2)
    expect_row(rows(page).nth(0), "user_logout", "verified")
    expect_row(rows(page).nth(1), "session_ended", "verified")
    call, webhook = raw(rows(page).nth(0)), raw(rows(page).nth(1))
    assert (call["source"], webhook["source"]) == ("frontend", "clerk_webhook")
    assert call["session_id"] == webhook["session_id"]
    assert call["user_id"] == "user_2alice"


def test_the_path_by_keyboard_alone(browser: Browser, sandbox: Sandbox) -> None:
    with opened(browser, sandbox) as page:
        page.keyboard.press("Tab")
        expect(page.get_by_label("User id")).to_be_focused()
        page.keyboard.press("Enter")
        expect(button(page, "Log out")).to_be_focused()
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        session = page.locator("#who code").nth(1).inner_text()
        page.keyboard.press("Enter")
        expect_pair(page, session)
        # The button keeps the focus, so that Tab goes on from here: to the answer, then to the newest event.
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.locator("#answer pre")).to_contain_text('"recorded": true')
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.locator("tr.raw pre")).to_contain_text('"event":"user_logout"')


@pytest.mark.parametrize("colour_scheme", ["light", "dark"])
def test_the_result_of_a_logout_is_in_view_on_a_phone(browser: Browser, sandbox: Sandbox, colour_scheme: str) -> None:
    with opened(browser, sandbox, viewport=PHONE, color_scheme=colour_scheme, has_touch=True) as page:
        sign_in(page)
        log_out(page)
        for part in (page.get_by_role("status"), rows(page).nth(0), rows(page).nth(1), page.get_by_text(NOTE).first):
            expect(part).to_be_in_viewport(ratio=1)
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        # What is further down brings its result into view, too.
        button(page, "Log out without a token").click()
        expect(page.get_by_role("status")).to_contain_text("nobody is known")
        expect(page.get_by_role("status")).to_be_in_viewport(ratio=1)


def test_a_token_is_refused_after_the_logout_and_its_use_is_an_alarm(page: Page) -> None:
    ask = button(page, "Ask whether the token still counts")
    ask.click()
    expect(page.get_by_role("status")).to_contain_text("It belongs to user_2alice")
    log_out(page)
    ask.click()
    expect(page.get_by_role("status")).to_contain_text("Refused")
    expect_row(rows(page).nth(2), "session_used_after_logout", "alarm")
    alarm, good = (rows(page).nth(at).locator(".badge") for at in (2, 0))
    colour = "element => getComputedStyle(element).backgroundColor"
    assert alarm.evaluate(colour) != good.evaluate(colour)


def test_an_expired_token_is_one_of_the_user_who_is_signed_in(page: Page) -> None:
    shown = page.locator("#who code").nth(1).inner_text()
    button(page, "Log out with an expired token").click()
    expect(page.get_by_role("status")).to_contain_text("user_2alice")
    expect_row(rows(page).first, "user_logout", "expired.*token-expired")
    expect(rows(page).first.locator("td.session")).to_have_text(shown)
    expect(page.locator("#who")).to_be_visible()


@pytest.mark.parametrize(
    ("action", "verdict"),
    [
        ("Log out without a token", "absent.*session-token-missing"),
        ("Log out with a forged token", "rejected.*token-invalid-signature"),
    ],
)
def test_a_call_that_proves_nobody_names_nobody(page: Page, action: str, verdict: str) -> None:
    button(page, action).click()
    expect_row(rows(page).first, "user_logout", verdict)
    assert raw(rows(page).first)["user_id"] is None


def test_an_end_at_clerk_is_reported_by_the_webhook_alone(page: Page) -> None:
    button(page, "End the session at Clerk").click()
    expect(page.get_by_label("User id")).to_be_visible()
    expect_row(rows(page).first, "session_ended", "revoked")
    expect(rows(page)).to_have_count(1)


def test_a_repeated_webhook_is_shown_as_a_copy(page: Page) -> None:
    log_out(page)
    button(page, "Send the last webhook again").click()
    expect(rows(page).nth(2)).to_contain_text("sent again, same event_id")
    assert raw(rows(page).nth(2))["event_id"] == raw(rows(page).nth(1))["event_id"]


def test_the_call_stands_above_the_webhook_whichever_comes_first(page: Page) -> None:
    log_out(page)
    lines = [{**raw(rows(page).nth(at)), "session_id": "sess_late", "event_id": f"event {at}"} for at in (1, 0)]
    page.evaluate("lines => lines.forEach(add)", [json.dumps(line) for line in lines])
    expect_row(rows(page).nth(0), "user_logout", "verified")
    expect_row(rows(page).nth(1), "session_ended", "verified")
    expect(rows(page).first.locator("td.session")).to_have_text("sess_late")


def test_sign_out_everywhere_ends_the_session_of_another_browser(browser: Browser, sandbox: Sandbox) -> None:
    with opened(browser, sandbox) as page, opened(browser, sandbox) as other:
        for one in (page, other):
            sign_in(one, "user_2everywhere")
        button(page, "Sign out everywhere").click()
        expect(page.get_by_role("status")).to_contain_text("Clerk ended 4 sessions")
        expect(page.locator("td.event code", has_text="user_logout_everywhere")).to_be_visible()
        other.reload()
        expect(other.get_by_label("User id")).to_be_visible()


def test_the_logout_can_be_copied_as_curl(page: Page, sandbox: Sandbox) -> None:
    button(page, "Copy the logout as curl").click()
    expect(page.get_by_role("status")).to_contain_text("Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert re.fullmatch(rf"curl .* {sandbox.service_url}/v1/auth/session -H '.* [\w-]+\.[\w-]+\.[\w-]+'", copied)


def test_what_is_not_possible_yet_says_why(browser: Browser, sandbox: Sandbox) -> None:
    with opened(browser, sandbox) as page:
        disabled = button(page, "Log out")
        assert disabled.get_attribute("aria-disabled") == "true"
        disabled.dispatch_event("click")
        expect(page.get_by_role("status")).to_have_text("Sign in first.")

"""The sandbox's page in a real Chromium, clicked through by Playwright."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from tests.support.debian import need
from tests.test_sandbox_command import Sandbox, start_sandbox

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


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
def signed_in(browser: Browser, sandbox: Sandbox) -> Iterator[Page]:
    """The page after signing in, in a browser without a past."""
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(sandbox.clerk_url)
    page.get_by_label("User id").fill("user_2alice")
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#session")).to_contain_text("user_2alice is signed in, session sess_2")
    yield page
    context.close()


@pytest.fixture
def page(browser: Browser, sandbox: Sandbox) -> Iterator[Page]:
    with signed_in(browser, sandbox) as page:
        yield page


def event(page: Page, title: str, shown: str) -> Locator:
    """The line under a title, about the session that the page has shown."""
    session_id = shown.rsplit(maxsplit=1)[-1].removesuffix(".")
    return page.locator(".event", has=page.get_by_text(title, exact=True)).filter(has_text=session_id).locator("pre")


def test_logging_out_shows_a_verified_event_and_clerks_word_of_it(page: Page) -> None:
    shown = page.locator("#session").inner_text()
    page.get_by_role("button", name="Log out").click()
    expect(page.locator("#session")).to_have_text("Signed out.")
    expect(page.locator("#answer")).to_contain_text('"recorded":true')
    expect(event(page, "user_logout: verified", shown)).to_contain_text('"user_id":"user_2alice"')
    expect(event(page, "session_ended: removed", shown)).to_contain_text('"source":"clerk_webhook"')


def test_a_forged_token_is_rejected(page: Page) -> None:
    page.get_by_role("button", name="Call with a forged token").click()
    expect(page.locator(".event strong").first).to_have_text("user_logout: rejected (token-invalid-signature)")


def test_a_call_without_a_token_is_absent(page: Page) -> None:
    page.get_by_role("button", name="Call without a token").click()
    expect(page.locator(".event strong").first).to_have_text("user_logout: absent (session-token-missing)")


def test_an_expired_token_still_says_who_it_was(page: Page) -> None:
    page.get_by_role("button", name="Call with an expired token").click()
    expect(page.locator(".event strong").first).to_have_text("user_logout: expired (token-expired)")


def test_a_sign_out_that_the_service_is_not_told_of_comes_as_a_webhook(page: Page) -> None:
    shown = page.locator("#session").inner_text()
    page.get_by_role("button", name="Sign out without telling the service").click()
    expect(page.locator("#session")).to_have_text("Signed out.")
    expect(event(page, "session_ended: removed", shown)).to_contain_text('"user_id":"user_2alice"')
    expect(event(page, "user_logout: verified", shown)).to_have_count(0)


def test_a_token_is_refused_at_once_after_a_sign_out_at_clerk(page: Page) -> None:
    """The token itself would hold for another minute."""
    shown = page.locator("#session").inner_text()
    check = page.get_by_role("button", name="Is my token still good?")
    check.click()
    expect(page.locator("#good")).to_contain_text('200 {"user_id":"user_2alice"')
    page.get_by_role("button", name="Sign out without telling the service").click()
    expect(event(page, "session_ended: removed", shown)).to_be_visible()
    check.click()
    expect(page.locator("#good")).to_contain_text("401 ")
    expect(page.locator("#good")).to_contain_text('"reason":"session-revoked"')
    expect(event(page, "session_used_after_logout: verified", shown)).to_be_visible()


def test_signing_out_everywhere_ends_the_sessions_of_other_browsers_too(
    page: Page, browser: Browser, sandbox: Sandbox
) -> None:
    """How many they are is not known here: the other tests have signed in this user, too."""
    shown = page.locator("#session").inner_text()
    with signed_in(browser, sandbox) as other:
        page.get_by_role("button", name="Sign out everywhere").click()
        expect(page.locator("#answer")).to_contain_text("200 ")
        expect(page.locator("#answer")).to_contain_text('"failed_sessions":0')
        expect(page.locator("#session")).to_have_text("Signed out.")
        expect(event(page, "user_logout_everywhere: verified", shown)).to_contain_text('"scope":"all"')
        other.reload()
        expect(other.locator("#session")).to_have_text("Signed out.")


def test_a_fresh_token_can_be_copied(page: Page) -> None:
    page.get_by_role("button", name="Copy a fresh token").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()").count(".") == 2

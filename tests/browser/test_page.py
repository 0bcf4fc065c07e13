"""The sandbox's page in a real Chromium, clicked through by Playwright."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

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


@pytest.fixture
def page(browser: Browser, sandbox: Sandbox) -> Iterator[Page]:
    """The page after signing in, in a browser without a past."""
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(sandbox.clerk_url)
    page.get_by_label("User id").fill("user_2alice")
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#session")).to_contain_text("user_2alice is signed in, session sess_2")
    yield page
    context.close()


def newest(page: Page) -> str:
    return page.locator(".event pre").first.inner_text()


def test_logging_out_shows_a_verified_event(page: Page) -> None:
    page.get_by_role("button", name="Log out").click()
    expect(page.locator("#session")).to_have_text("Signed out.")
    expect(page.locator("#answer")).to_contain_text('"recorded":true')
    expect(page.locator(".event strong").first).to_have_text("user_logout: verified")
    assert '"user_id":"user_2alice"' in newest(page)


def test_a_forged_token_is_rejected(page: Page) -> None:
    page.get_by_role("button", name="Call with a forged token").click()
    expect(page.locator(".event strong").first).to_have_text("user_logout: rejected (token-invalid-signature)")


def test_a_call_without_a_token_is_absent(page: Page) -> None:
    page.get_by_role("button", name="Call without a token").click()
    expect(page.locator(".event strong").first).to_have_text("user_logout: absent (session-token-missing)")


def test_a_fresh_token_can_be_copied(page: Page) -> None:
    page.get_by_role("button", name="Copy a fresh token").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()").count(".") == 2

"""That a real Chromium forgets the session cookies that the answer expires."""

import pytest
from playwright.sync_api import sync_playwright

from tests.browser.test_page import FLAGS
from tests.support.debian import need
from tests.support.sandbox import start_sandbox

FORMS = {"plain": "Path=/", "partitioned": "Path=/; Secure; SameSite=None; Partitioned"}


@pytest.mark.parametrize("forms", [["plain"], ["partitioned"], ["plain", "partitioned"]], ids=" and ".join)
def test_a_browser_forgets_a_session_cookie_partitioned_or_not(forms: list[str]) -> None:
    """A partitioned cookie (CHIPS) is another one than the plain cookie of the same name."""
    chromium = need("chromium", "chromium")
    with start_sandbox() as sandbox, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page()
        page.goto(sandbox.service_url)
        for name in ("__session", "__session_1a2B3c4D"):
            for form in forms:
                page.evaluate(f"document.cookie = '{name}=of.{form}.cookie; {FORMS[form]}; Max-Age=600'")
        page.evaluate("document.cookie = 'theme=dark; Path=/'")
        assert len(page.evaluate("document.cookie").split("; ")) == 2 * len(forms) + 1
        page.evaluate("fetch('/v1/auth/session', {method: 'DELETE', credentials: 'include'}).then(() => null)")
        assert page.evaluate("document.cookie") == "theme=dark"
        browser.close()

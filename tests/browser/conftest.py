"""One browser and one of everything it talks to, for all tests of the example application."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import async_playwright

from tests.browser.example import assemble
from tests.browser.stage import Stage, set_up
from tests.browser.test_page import FLAGS
from tests.support.debian import need


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    chromium = need("chromium", "chromium")
    need("npm", "npm")
    need("openssl", "openssl")
    assemble()
    with set_up(tmp_path_factory.mktemp("stage")) as stage:
        reachable = "MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1"
        rules = f"MAP *.clerk.accounts.dev:443 127.0.0.1:{stage.frontend_api}, {reachable}"
        async with async_playwright() as playwright:
            stage.browser = await playwright.chromium.launch(
                executable_path=chromium, args=[*FLAGS, f"--host-resolver-rules={rules}", "--ignore-certificate-errors"]
            )
            yield stage
            await stage.browser.close()

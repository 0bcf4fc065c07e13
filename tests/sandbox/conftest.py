import base64
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.sandbox.app import create_sandbox
from service.sandbox.instance import Instance
from tests.support.signing import ISSUER, ORIGIN

SECRET = "sk_test_sandbox"


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    return claims


@pytest.fixture
def instance() -> Instance:
    return Instance(ISSUER, SECRET)


@pytest.fixture
def webhooks() -> list[tuple[str, dict[str, Any]]]:
    """What was delivered: ids and events. Over ``ASGITransport`` an answer comes when its background tasks are done."""
    return []


@pytest.fixture
async def browser(
    instance: Instance, webhooks: list[tuple[str, dict[str, Any]]], tmp_path: Path
) -> AsyncIterator[httpx.AsyncClient]:
    """A browser on the sandbox's page: keeps cookies, sends an Origin."""

    async def deliver(headers: Mapping[str, str], body: bytes) -> None:
        webhooks.append((headers["svix-id"], json.loads(body)))

    (tmp_path / "clerk-js" / "dist").mkdir(parents=True)
    (tmp_path / "clerk-js" / "dist" / "clerk.browser.js").write_text("clerk-js", "utf-8")
    app = create_sandbox(
        instance,
        service_url="http://service.test",
        events=["one", "two"],
        hosts=["localhost"],
        deliver=deliver,
        packages=tmp_path,
    )
    transport = httpx.ASGITransport(app, client=("203.0.113.77", 1))
    headers = {"Origin": ORIGIN, "User-Agent": "Mozilla/5.0"}
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as browser:
        yield browser

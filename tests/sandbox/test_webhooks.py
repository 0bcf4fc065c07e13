"""The stand-in's webhooks: in Clerk's shape, truly signed, repeated on demand.

Over ``ASGITransport`` a response comes back when its background tasks are done, so no test waits for a webhook.
"""

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest

from service.sandbox.app import create_sandbox
from service.sandbox.instance import Instance
from service.sandbox.webhooks import post_to
from tests.sandbox.conftest import SECRET
from tests.support.signing import ORIGIN


class Service:
    """Stands where webhooks are delivered."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.events: list[dict[str, Any]] = []

    async def __call__(self, headers: Mapping[str, str], body: bytes) -> None:
        self.ids.append(headers["svix-id"])
        self.events.append(json.loads(body))


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
async def browser(instance: Instance, service: Service) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_sandbox(instance, deliver=service), client=("203.0.113.77", 1))
    headers = {"Origin": ORIGIN, "User-Agent": "Mozilla/5.0"}
    async with httpx.AsyncClient(transport=transport, base_url=ORIGIN, headers=headers) as browser:
        yield browser


async def sign_in_and_out(browser: httpx.AsyncClient) -> str:
    session: str = (await browser.post("/sandbox/sign-in?user_id=user_alice")).json()["response"]["sessions"][0]["id"]
    await browser.post("/v1/client/sessions?_method=DELETE")
    return session


async def test_a_sign_out_is_told_in_clerks_shape(
    browser: httpx.AsyncClient, instance: Instance, service: Service
) -> None:
    session = instance.session(await sign_in_and_out(browser))
    assert session is not None
    (event,) = service.events
    assert event["data"].pop("user")["id"] == "user_alice"
    assert event == {
        "data": session.as_json(),
        "event_attributes": {"http_request": {"client_ip": "203.0.113.77", "user_agent": "Mozilla/5.0"}},
        "instance_id": instance.kid,
        "object": "event",
        "timestamp": session.updated_at,
        "type": "session.removed",
    }


async def test_a_session_revoked_twice_is_told_once(
    browser: httpx.AsyncClient, instance: Instance, service: Service
) -> None:
    session = instance.sign_in("user_alice")
    for _ in range(2):
        await browser.post(f"/v1/sessions/{session.id}/revoke", headers={"Authorization": f"Bearer {SECRET}"})
    assert [event["type"] for event in service.events] == ["session.revoked"]


@pytest.mark.parametrize(("query", "cause"), [("", "revoked"), ("?cause=ended", "ended")])
async def test_a_session_can_be_ended_without_a_logout(
    browser: httpx.AsyncClient, service: Service, query: str, cause: str
) -> None:
    session_id = (await browser.post("/sandbox/sessions?user_id=user_bob")).text
    answer = await browser.post(f"/sandbox/sessions/{session_id}/end{query}")
    assert (answer.status_code, answer.json()["status"]) == (200, cause)
    (event,) = service.events
    assert (event["type"], event["data"]["id"]) == (f"session.{cause}", session_id)


async def test_the_newest_webhook_is_sent_again_with_its_id(browser: httpx.AsyncClient, service: Service) -> None:
    assert (await browser.post("/sandbox/webhooks/redeliver")).json() == {"redelivered": None}
    for _ in range(2):
        await sign_in_and_out(browser)
    first, second = service.ids
    assert (await browser.post("/sandbox/webhooks/redeliver")).json() == {"redelivered": second}
    assert service.ids == [first, second, second]
    assert service.events[2] == service.events[1]


async def test_a_webhook_that_cannot_be_delivered_is_dropped() -> None:
    def refuse(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    async with httpx.AsyncClient(transport=httpx.MockTransport(refuse)) as client:
        await post_to(client, "http://service.test/")({}, b"")

"""The stand-in's webhooks: in Clerk's shape, truly signed, repeated on demand."""

from typing import Any

import httpx

from service.sandbox.instance import Instance
from service.sandbox.webhooks import post_to
from tests.sandbox.conftest import SECRET

Webhooks = list[tuple[str, dict[str, Any]]]


async def sign_in_and_out(browser: httpx.AsyncClient) -> str:
    session: str = (await browser.post("/sandbox/sign-in?user_id=user_alice")).json()["response"]["sessions"][0]["id"]
    await browser.post("/v1/client/sessions?_method=DELETE")
    return session


async def test_a_sign_out_is_told_in_clerks_shape(
    browser: httpx.AsyncClient, instance: Instance, webhooks: Webhooks
) -> None:
    session = instance.session(await sign_in_and_out(browser))
    assert session is not None
    ((_, event),) = webhooks
    assert event == {
        "data": session.as_json() | {"user": session.user()},
        "event_attributes": {"http_request": {"client_ip": "203.0.113.77", "user_agent": "Mozilla/5.0"}},
        "instance_id": instance.kid,
        "object": "event",
        "timestamp": session.updated_at,
        "type": "session.removed",
    }


async def test_a_session_revoked_twice_is_told_once(
    browser: httpx.AsyncClient, instance: Instance, webhooks: Webhooks
) -> None:
    session = instance.sign_in("user_alice")
    await browser.post(f"/sandbox/sessions/{session.id}/end")
    again = await browser.post(f"/v1/sessions/{session.id}/revoke", headers={"Authorization": f"Bearer {SECRET}"})
    assert (again.status_code, again.json()["status"]) == (200, "revoked")
    assert [event["type"] for _, event in webhooks] == ["session.revoked"]


async def test_the_newest_webhook_is_sent_again_with_its_id(browser: httpx.AsyncClient, webhooks: Webhooks) -> None:
    assert (await browser.post("/sandbox/webhooks/redeliver")).json() == {"redelivered": None}
    for _ in range(2):
        await sign_in_and_out(browser)
    first, second = webhooks
    assert (await browser.post("/sandbox/webhooks/redeliver")).json() == {"redelivered": second[0]}
    assert webhooks == [first, second, second]


async def test_a_webhook_that_cannot_be_delivered_is_dropped() -> None:
    def refuse(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    async with httpx.AsyncClient(transport=httpx.MockTransport(refuse)) as client:
        await post_to(client, "http://service.test/")({}, b"")

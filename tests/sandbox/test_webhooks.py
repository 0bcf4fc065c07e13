"""The stand-in's webhooks: in Clerk's shape, truly signed, and delivered until they are taken."""

import asyncio
import json
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from asgi_lifespan import LifespanManager

from service.app import create_app
from service.sandbox.app import create_sandbox
from service.sandbox.instance import Instance
from service.sandbox.webhooks import RETRY_AFTER, Webhooks, post_to
from service.settings import Settings
from tests.support.lines import EventFile
from tests.support.processes import TIMEOUT
from tests.support.signing import ISSUER, ORIGIN
from tests.support.webhooks import signature

SECRET_KEY = "sk_test_sandbox"
PATH = "/v1/webhooks/clerk"


class Service:
    """Stands where webhooks are delivered: takes each, or refuses as many as it is told."""

    def __init__(self, *, refuse: int = 0) -> None:
        self.refuse = refuse
        self.received: list[tuple[Mapping[str, str], bytes]] = []
        self._arrived = asyncio.Condition()

    async def __call__(self, headers: Mapping[str, str], body: bytes) -> bool:
        async with self._arrived:
            self.received.append((headers, body))
            self._arrived.notify_all()
        return len(self.received) > self.refuse

    async def get(self, count: int = 1) -> list[dict[str, Any]]:
        """The events, once so many were delivered."""
        async with asyncio.timeout(TIMEOUT), self._arrived:
            await self._arrived.wait_for(lambda: len(self.received) >= count)
        return [json.loads(body) for _, body in self.received]

    @property
    def ids(self) -> list[str]:
        return [headers["svix-id"] for headers, _ in self.received]


@pytest.fixture
def instance() -> Instance:
    return Instance(ISSUER, SECRET_KEY)


@pytest.fixture
async def service() -> Service:
    return Service()


@pytest.fixture
async def browser(instance: Instance, service: Service) -> AsyncIterator[httpx.AsyncClient]:
    async with open_sandbox(instance, service) as browser:
        yield browser


@asynccontextmanager
async def open_sandbox(instance: Instance, deliver: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with LifespanManager(create_sandbox(instance, deliver=deliver)) as manager:
        transport = httpx.ASGITransport(manager.app, client=("203.0.113.77", 1))
        headers = {"Origin": ORIGIN, "User-Agent": "Mozilla/5.0"}
        async with httpx.AsyncClient(transport=transport, base_url=ORIGIN, headers=headers) as browser:
            yield browser


async def sign_in(browser: httpx.AsyncClient) -> str:
    session: str = (await browser.post("/sandbox/sign-in?user_id=user_alice")).json()["response"]["sessions"][0]["id"]
    return session


async def test_signing_out_is_told_in_clerks_shape(
    browser: httpx.AsyncClient, instance: Instance, service: Service
) -> None:
    session_id = await sign_in(browser)
    await browser.post("/v1/client/sessions?_method=DELETE")
    (event,) = await service.get()
    session = instance.session(session_id)
    assert session is not None
    assert event["data"].pop("user")["id"] == "user_alice"
    assert event == {
        "data": session.as_json(),
        "event_attributes": {"http_request": {"client_ip": "203.0.113.77", "user_agent": "Mozilla/5.0"}},
        "instance_id": instance.kid,
        "object": "event",
        "timestamp": session.updated_at,
        "type": "session.removed",
    }


async def test_it_is_signed_as_the_standard_says(
    browser: httpx.AsyncClient, instance: Instance, service: Service
) -> None:
    await sign_in(browser)
    await browser.delete("/v1/client/sessions")
    await service.get()
    ((headers, body),) = service.received
    at, message_id = int(headers["svix-timestamp"]), headers["svix-id"]
    assert headers["svix-signature"] == signature(body, message_id=message_id, at=at, secret=instance.webhook_secret)


async def test_a_session_that_the_backend_api_revokes_is_told(
    browser: httpx.AsyncClient, instance: Instance, service: Service
) -> None:
    session = instance.sign_in("user_alice")
    for _ in range(2):
        await browser.post(f"/v1/sessions/{session.id}/revoke", headers={"Authorization": f"Bearer {SECRET_KEY}"})
    assert [event["type"] for event in await service.get()] == ["session.revoked"]


@pytest.mark.parametrize(
    ("query", "cause"), [("", "revoked"), ("?cause=ended", "ended"), ("?cause=removed", "removed")]
)
async def test_a_session_can_be_ended_behind_the_services_back(
    browser: httpx.AsyncClient, service: Service, query: str, cause: str
) -> None:
    session_id = (await browser.post("/sandbox/sessions?user_id=user_bob")).text
    answer = await browser.post(f"/sandbox/sessions/{session_id}/end{query}")
    assert (answer.status_code, answer.json()["status"]) == (200, cause)
    (event,) = await service.get()
    assert (event["type"], event["data"]["id"], event["data"]["user_id"]) == (
        f"session.{cause}",
        session_id,
        "user_bob",
    )


async def test_a_session_that_has_ended_is_not_told_again(browser: httpx.AsyncClient, service: Service) -> None:
    session_id = (await browser.post("/sandbox/sessions")).text
    for cause in ("removed", "revoked"):
        answer = await browser.post(f"/sandbox/sessions/{session_id}/end?cause={cause}")
        assert answer.json()["status"] == "removed"
    await browser.post(f"/sandbox/sessions/{(await browser.post('/sandbox/sessions')).text}/end")
    assert [event["type"] for event in await service.get(2)] == ["session.removed", "session.revoked"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/sandbox/sessions/sess_unknown/end", 404),
        ("/sandbox/sessions/sess_unknown/end?cause=expired", 422),
        ("/sandbox/webhooks/redeliver?count=0", 422),
        ("/sandbox/webhooks/redeliver?count=100", 422),
        ("/sandbox/webhooks/redeliver?count=x", 422),
        ("/sandbox/webhooks/redeliver?count=²", 422),
        ("/sandbox/webhooks/redeliver?count=", 422),
    ],
)
async def test_what_cannot_be_done_is_refused(browser: httpx.AsyncClient, path: str, status: int) -> None:
    assert (await browser.post(path)).status_code == status


async def test_without_an_address_and_a_user_agent_both_are_empty(instance: Instance, service: Service) -> None:
    async with LifespanManager(create_sandbox(instance, deliver=service)) as manager:
        transport = httpx.ASGITransport(manager.app, client=None)  # type: ignore[arg-type] # ASGI allows it
        async with httpx.AsyncClient(transport=transport, base_url=ORIGIN) as client:
            del client.headers["user-agent"]
            await client.post(f"/sandbox/sessions/{(await client.post('/sandbox/sessions')).text}/end")
    (event,) = await service.get()
    assert event["event_attributes"] == {"http_request": {"client_ip": "", "user_agent": ""}}


async def test_webhooks_are_sent_again_with_the_same_id(browser: httpx.AsyncClient, service: Service) -> None:
    for _ in range(3):
        await browser.post(f"/sandbox/sessions/{(await browser.post('/sandbox/sessions')).text}/end")
    await service.get(3)
    first, second, third = service.ids
    assert (await browser.post("/sandbox/webhooks/redeliver")).json() == {"redelivered": [third]}
    assert (await browser.post("/sandbox/webhooks/redeliver?count=2")).json() == {"redelivered": [second, third]}
    events = await service.get(6)
    assert service.ids == [first, second, third, third, second, third]
    assert events[2] == events[3] == events[5]


async def test_with_nothing_sent_there_is_nothing_to_send_again(browser: httpx.AsyncClient) -> None:
    assert (await browser.post("/sandbox/webhooks/redeliver")).json() == {"redelivered": []}


async def test_without_a_service_webhooks_go_to_nobody(instance: Instance) -> None:
    async with (
        LifespanManager(create_sandbox(instance)) as manager,
        httpx.AsyncClient(transport=httpx.ASGITransport(manager.app), base_url=ORIGIN) as client,
    ):
        session_id = (await client.post("/sandbox/sessions")).text
        assert (await client.post(f"/sandbox/sessions/{session_id}/end")).status_code == 200


# --- Until it is taken -----------------------------------------------------------------------------------------------


async def deliveries(instance: Instance, service: Service) -> tuple[list[float], list[str]]:
    """How long was waited between the attempts for one webhook, and the ids that were sent."""
    pauses: list[float] = []
    done = asyncio.Event()

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async def deliver(headers: Mapping[str, str], body: bytes) -> bool:
        taken = await service(headers, body)
        if taken or len(service.received) > len(RETRY_AFTER):
            done.set()
        return taken

    webhooks = Webhooks(instance, deliver, sleep=sleep)
    session = instance.sign_in("user_alice")
    instance.end(session, "removed")
    webhooks.session_ended(session, client_ip="", user_agent="")
    async with asyncio.timeout(TIMEOUT):
        await done.wait()
    await webhooks.close()
    return pauses, service.ids


async def test_a_webhook_that_is_not_taken_is_sent_again_with_the_same_id(instance: Instance) -> None:
    pauses, ids = await deliveries(instance, Service(refuse=2))
    assert pauses == list(RETRY_AFTER[:2])
    assert len(ids) == 3
    assert len(set(ids)) == 1


async def test_a_webhook_that_is_never_taken_is_given_up(instance: Instance) -> None:
    pauses, ids = await deliveries(instance, Service(refuse=100))
    assert pauses == list(RETRY_AFTER)
    assert len(ids) == len(RETRY_AFTER) + 1


async def test_shutting_down_does_not_wait_for_what_is_not_taken(instance: Instance) -> None:
    hanging = asyncio.Event()

    async def deliver(_headers: Mapping[str, str], _body: bytes) -> bool:
        hanging.set()
        await asyncio.Event().wait()
        raise AssertionError("never")

    async with asyncio.timeout(TIMEOUT):
        async with open_sandbox(instance, deliver) as browser:
            await sign_in(browser)
            await browser.delete("/v1/client/sessions")
            await hanging.wait()


@pytest.mark.parametrize(("status", "taken"), [(204, True), (200, True), (307, False), (400, False), (503, False)])
async def test_any_answer_but_2xx_is_a_failure(status: int, taken: bool) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(status))
    async with httpx.AsyncClient(transport=transport) as client:
        assert await post_to(client, "http://service.test/")({}, b"") is taken


async def test_no_answer_is_a_failure() -> None:
    def refuse(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    async with httpx.AsyncClient(transport=httpx.MockTransport(refuse)) as client:
        assert await post_to(client, "http://service.test/")({}, b"") is False


# --- With the service ------------------------------------------------------------------------------------------------


async def test_an_end_that_only_clerk_knows_of_becomes_one_event_however_often_it_is_told(
    instance: Instance, settings: Callable[..., Settings], events: EventFile
) -> None:
    app = create_app(settings(clerk_webhook_signing_secret=instance.webhook_secret))
    answers: list[bool] = []
    async with (
        LifespanManager(app) as manager,
        httpx.AsyncClient(transport=httpx.ASGITransport(manager.app)) as client,
    ):
        post, arrived = post_to(client, f"http://service{PATH}"), Service()

        async def deliver(headers: Mapping[str, str], body: bytes) -> bool:
            answers.append(await post(headers, body))
            return await arrived(headers, body)

        async with open_sandbox(instance, deliver) as browser:
            session_id = (await browser.post("/sandbox/sessions?actor_id=user_admin&org_id=org_1")).text
            await browser.post(f"/sandbox/sessions/{session_id}/end")
            await arrived.get(1)
            for count in (2, 3, 4):
                await browser.post("/sandbox/webhooks/redeliver")
                await arrived.get(count)
    lines = events.new()
    assert answers == [True] * 4
    assert len({line["event_id"] for line in lines}) == 1
    assert {(line["event"], line["cause"], line["session_id"]) for line in lines} == {
        ("session_ended", "revoked", session_id)
    }
    assert {(line["org_id"], line["actor_id"], line["initiated_by"]) for line in lines} == {
        ("org_1", "user_admin", "admin")
    }


async def test_a_token_can_be_expired_when_it_is_handed_out(browser: httpx.AsyncClient, instance: Instance) -> None:
    payload = (await browser.post("/sandbox/token?expired=true")).text.split(".")[1]
    claims = json.loads(urlsafe_b64decode(payload + "=="))
    assert claims["exp"] < instance.sign_in("user_alice").created_at / 1000 - 3000

import asyncio

import httpx
import pytest
import respx
from prometheus_client import generate_latest

from service.endpoints.status import LOOK_EVERY, readiness_counted
from service.telemetry.metrics import Metrics
from tests.conftest import OpenClient
from tests.support.lines import EventFile
from tests.support.signing import jwk, token

JWKS = "https://api.clerk.com/v1/jwks"
SECRET_KEY = "sk_test_Zm9yVGVzdHNPbmx5"
WITH_SECRET_KEY = {"clerk_jwt_key": None, "clerk_secret_key": SECRET_KEY}


async def wait_for_a_fetch(client: httpx.AsyncClient) -> None:
    """A logout with a token waits until the fetch of the start is over."""
    await client.delete("/v1/auth/session", headers={"Authorization": f"Bearer {token()}"})


async def test_with_a_pem_it_is_ready_at_once(client: httpx.AsyncClient) -> None:
    response = await client.get("/readyz")
    assert response.status_code == 200
    answer = response.json()
    assert answer.pop("status") == "ready"
    assert answer["keys"] == "ok"
    assert set(answer.values()) == {"ok"}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_both_methods_of_a_probe_work(client: httpx.AsyncClient, method: str) -> None:
    assert (await client.request(method, "/readyz")).status_code == 200


async def test_without_keys_it_is_not_ready_and_says_why(open_client: OpenClient, respx_mock: respx.MockRouter) -> None:
    respx_mock.get(JWKS).respond(503)
    async with open_client(**WITH_SECRET_KEY) as client:
        await wait_for_a_fetch(client)
        response = await client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["status"] == "not ready"
    assert response.json()["keys"] == "Clerk answered with status 503"


async def test_a_problem_never_holds_the_secret_key(open_client: OpenClient, respx_mock: respx.MockRouter) -> None:
    respx_mock.get(JWKS).respond(401, json={"errors": [{"message": SECRET_KEY}]})
    async with open_client(**WITH_SECRET_KEY) as client:
        await wait_for_a_fetch(client)
        response = await client.get("/readyz")
    assert "does not accept CLERK_SECRET_KEY" in response.json()["keys"]
    assert SECRET_KEY not in response.text


async def test_with_published_keys_it_is_ready(open_client: OpenClient, respx_mock: respx.MockRouter) -> None:
    respx_mock.get(JWKS).respond(json={"keys": [jwk()]})
    async with open_client(**WITH_SECRET_KEY) as client:
        await wait_for_a_fetch(client)
        assert (await client.get("/readyz")).status_code == 200


async def test_while_the_first_fetch_hangs_it_answers_and_is_not_ready(
    open_client: OpenClient, respx_mock: respx.MockRouter
) -> None:
    async def hang(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError("never")

    respx_mock.get(JWKS).mock(side_effect=hang)
    async with open_client(**WITH_SECRET_KEY) as client:
        response = await client.get("/readyz")
    assert (response.status_code, response.json()["keys"]) == (503, "not fetched yet")


async def test_without_redis_it_is_ready_and_says_what_is_wrong(open_client: OpenClient) -> None:
    async with open_client(revocations_url="redis://:sesame@127.0.0.1:1/0") as client:
        response = await client.get("/readyz")
        metrics = (await client.get("/metrics")).text
    assert response.status_code == 200
    assert response.json()["status"] == "ready"
    assert response.json()["revocations"].startswith("Redis: it cannot be reached: ")
    assert "sesame" not in response.text
    assert "clerk_logout_revocations_up 0.0" in metrics


async def test_a_revocation_list_in_memory_is_always_up(client: httpx.AsyncClient) -> None:
    assert (await client.get("/readyz")).json()["revocations"] == "ok"
    assert "clerk_logout_revocations_up 1.0" in (await client.get("/metrics")).text


async def test_asking_is_no_event_and_asks_nobody(
    open_client: OpenClient, events: EventFile, respx_mock: respx.MockRouter
) -> None:
    jwks = respx_mock.get(JWKS).respond(json={"keys": [jwk()]})
    async with open_client(**WITH_SECRET_KEY) as client:
        for _ in range(20):
            await client.get("/readyz")
    assert jwks.call_count <= 1  # that of the start
    assert events.new() == []


class Part:
    """A part with the problem that the test gives it."""

    problem: str | None = None


async def test_the_metric_follows_the_parts() -> None:
    keys, spool, metrics = Part(), Part(), Metrics()
    slept: asyncio.Queue[float] = asyncio.Queue()
    wake = asyncio.Semaphore(0)

    async def sleep(seconds: float) -> None:
        slept.put_nowait(seconds)
        await wake.acquire()

    def shown() -> bool:
        return b"clerk_logout_ready 1.0" in generate_latest(metrics.registry)

    assert not shown()
    async with readiness_counted({"keys": keys, "spool": spool}, metrics, sleep):
        assert await slept.get() == LOOK_EVERY
        assert shown()
        spool.problem = "full"
        wake.release()
        await slept.get()
        assert not shown()
    assert len(asyncio.all_tasks()) == 1

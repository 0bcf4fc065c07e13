import httpx
import pytest
import respx

from tests.conftest import OpenClient
from tests.support.lines import EventFile


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_process_that_runs_is_alive(client: httpx.AsyncClient, method: str) -> None:
    response = await client.request(method, "/healthz")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"


async def test_it_says_so_in_json(client: httpx.AsyncClient) -> None:
    assert (await client.get("/healthz")).json() == {"status": "ok"}


async def test_asking_is_no_event(client: httpx.AsyncClient, events: EventFile) -> None:
    await client.get("/healthz")
    assert events.new() == []


async def test_it_is_alive_while_clerk_is_down(open_client: OpenClient, respx_mock: respx.MockRouter) -> None:
    respx_mock.get("https://api.clerk.com/v1/jwks").mock(side_effect=httpx.ConnectError("down"))
    async with open_client(clerk_jwt_key=None, clerk_secret_key="sk_test_abc") as client:
        assert (await client.get("/healthz")).status_code == 200


async def test_it_is_alive_while_the_event_log_takes_nothing(open_client: OpenClient) -> None:
    async with open_client(event_log="/dev/full") as client:
        await client.delete("/v1/auth/session")
        assert (await client.get("/healthz")).status_code == 200

"""``GET /`` and the event schemas; ``test_openapi.py`` holds the OpenAPI document."""

import httpx
import pytest

from service import __version__
from service.app import ROUTES
from service.events.schemas import schemas
from tests.support.lines import EventFile


async def test_the_root_says_what_this_is_and_where_to_read_on(client: httpx.AsyncClient) -> None:
    response = await client.get("/")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    answer = response.json()
    assert (answer["name"], answer["version"]) == ("clerk-logout", __version__)
    assert "Clerk" in answer["description"]
    assert (await client.get(answer["documentation"]["openapi"])).json()["info"]["title"] == "clerk-logout"
    assert (await client.get(answer["documentation"]["events"])).json() == schemas()


async def test_the_root_lists_every_path(client: httpx.AsyncClient) -> None:
    served = {f"{method} {route.path}" for route in ROUTES for method in (route.methods or set()) - {"HEAD"}}
    assert set((await client.get("/")).json()["paths"]) == served


async def test_the_schemas_are_served_by_the_names_of_their_events(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/events/schema")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.json() == schemas()


@pytest.mark.parametrize("path", ["/", "/v1/events/schema"])
async def test_asking_for_a_document_writes_no_event(client: httpx.AsyncClient, events: EventFile, path: str) -> None:
    await client.get(path)
    assert events.new() == []

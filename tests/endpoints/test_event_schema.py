import httpx

from service.events.schemas import schemas
from tests.support.lines import EventFile


async def test_the_schemas_are_served_by_the_names_of_their_events(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/events/schema")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.json() == schemas()


async def test_asking_for_the_schemas_is_no_event(client: httpx.AsyncClient, events: EventFile) -> None:
    await client.get("/v1/events/schema")
    assert events.new() == []

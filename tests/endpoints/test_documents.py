"""``GET /``, the event schemas, and the OpenAPI document, which ``test_openapi.py`` holds to its standard."""

import httpx

from service import __version__
from service.app import ROUTES
from service.endpoints.documents import document
from service.events.schemas import schemas
from tests.support.lines import EventFile


async def test_the_root_says_what_this_is_and_where_to_read_on(client: httpx.AsyncClient, events: EventFile) -> None:
    answer = (await client.get("/")).json()
    assert (answer["name"], answer["version"]) == ("clerk-logout", __version__)
    assert "Clerk" in answer["description"]
    served = {f"{method} {route.path}" for route in ROUTES for method in (route.methods or set()) - {"HEAD"}}
    assert set(answer["paths"]) == served
    for name, expected in {"openapi": document(), "events": schemas()}.items():
        response = await client.get(answer["documentation"][name])
        assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
        assert response.json() == expected
    assert events.new() == []

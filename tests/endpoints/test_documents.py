"""What the service says about itself; ``test_openapi.py`` holds the OpenAPI document to its standard."""

import re
import subprocess
from collections.abc import Mapping

import httpx
import pytest
import respx
from prometheus_client.parser import text_string_to_metric_families

from service import __version__
from service.endpoints.documents import document
from service.events.schemas import schemas
from tests.conftest import OpenClient
from tests.endpoints.parts import bearer
from tests.support.api_document import operations
from tests.support.debian import need
from tests.support.lines import EventFile
from tests.support.processes import TIMEOUT
from tests.support.signing import token

SESSION = "/v1/auth/session"
JWKS = "https://api.clerk.com/v1/jwks"
SECRET_KEY = "sk_test_Zm9yVGVzdHNPbmx5"
WITH_SECRET_KEY = {"clerk_jwt_key": None, "clerk_secret_key": SECRET_KEY}
FETCHED_AT = "clerk_logout_keys_fetched_timestamp_seconds"


async def test_asking_is_no_event(client: httpx.AsyncClient, events: EventFile) -> None:
    for path in ("/", "/openapi.json", "/v1/events/schema", "/healthz", "/readyz", "/metrics"):
        for method in ("GET", "HEAD"):
            assert (await client.request(method, path)).status_code == 200
    assert events.new() == []


async def test_the_root_says_what_this_is_and_where_to_read_on(client: httpx.AsyncClient) -> None:
    answer = (await client.get("/")).json()
    assert (answer["name"], answer["version"]) == ("clerk-logout", __version__)
    assert "Clerk" in answer["description"]
    assert set(answer["paths"]) == {f"{method} {path}" for method, path in operations()}
    for name, expected in {"openapi": document(), "events": schemas()}.items():
        response = await client.get(answer["documentation"][name])
        assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
        assert response.json() == expected


# --- Alive -----------------------------------------------------------------------------------------------------------


async def test_it_is_alive_while_everything_else_is_down(open_client: OpenClient, respx_mock: respx.MockRouter) -> None:
    respx_mock.get(JWKS).mock(side_effect=httpx.ConnectError("down"))
    async with open_client(event_log="/dev/full", **WITH_SECRET_KEY) as client:
        await client.delete(SESSION)
        response = await client.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


# --- Ready -----------------------------------------------------------------------------------------------------------


async def test_with_a_pem_it_is_ready_at_once(client: httpx.AsyncClient) -> None:
    response = await client.get("/readyz")
    assert response.status_code == 200
    parts = ("keys", "event_log", "spool", "revocations")
    assert response.json() == {"status": "ready"} | dict.fromkeys(parts, "ok")
    samples = await scrape(client)
    assert samples["clerk_logout_ready"] == samples["clerk_logout_revocations_up"] == [({}, 1)]


@pytest.mark.parametrize(
    ("status", "problem"),
    [(503, "Clerk answered with status 503"), (401, "Clerk does not accept CLERK_SECRET_KEY (status 401)")],
)
async def test_without_keys_it_is_not_ready_and_says_why(
    open_client: OpenClient, respx_mock: respx.MockRouter, status: int, problem: str
) -> None:
    respx_mock.get(JWKS).respond(status, json={"errors": [{"message": SECRET_KEY}]})
    async with open_client(**WITH_SECRET_KEY) as client:
        await client.delete(SESSION, headers=bearer(token()))  # waits until the fetch of the start is over
        response = await client.get("/readyz")
        samples = await scrape(client)
    assert samples["clerk_logout_ready"] == samples[FETCHED_AT] == [({}, 0)]
    assert samples["clerk_logout_key_fetches_total"] == [({"result": "ok"}, 0), ({"result": "failed"}, 1)]
    assert response.status_code == 503
    assert response.json()["status"] == "not ready"
    assert problem in response.json()["keys"]
    assert SECRET_KEY not in response.text


async def test_with_a_broken_event_log_it_is_ready_and_says_so(open_client: OpenClient) -> None:
    async with open_client(event_log="/dev/full") as client:
        await client.delete(SESSION)
        response = await client.get("/readyz")
    assert response.status_code == 200
    assert re.fullmatch(
        r"failing since \S+Z: No space left on device; [1-9][0-9]+ bytes wait in the spool",
        response.json()["event_log"],
    )


async def test_without_redis_it_is_ready_and_says_what_is_wrong(open_client: OpenClient) -> None:
    async with open_client(revocations_url="redis://:sesame@127.0.0.1:1/0") as client:
        response = await client.get("/readyz")
        assert (await scrape(client))["clerk_logout_revocations_up"] == [({}, 0)]
    assert response.status_code == 200
    assert response.json()["status"] == "ready"
    assert "cannot be reached" in response.json()["revocations"]
    assert "sesame" not in response.text


# --- Metrics ---------------------------------------------------------------------------------------------------------


async def scrape(client: httpx.AsyncClient) -> dict[str, list[tuple[Mapping[str, str], float]]]:
    """The samples by name."""
    response = await client.get("/metrics")
    assert response.status_code == 200
    samples: dict[str, list[tuple[Mapping[str, str], float]]] = {}
    for family in text_string_to_metric_families(response.text):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    return samples


async def test_logouts_are_counted_by_event_verdict_and_reason(client: httpx.AsyncClient) -> None:
    for headers in (bearer(token()), bearer("x"), {}, {}):
        await client.delete(SESSION, headers=headers)
    counted = {
        (of["event"], of["auth"], of["reason"]): n for of, n in (await scrape(client))["clerk_logout_events_total"]
    }
    assert counted == {
        ("user_logout", "verified", "none"): 1,
        ("user_logout", "rejected", "token-invalid"): 1,
        ("user_logout", "absent", "session-token-missing"): 2,
    }


async def test_labels_hold_nothing_that_a_caller_chose(client: httpx.AsyncClient) -> None:
    """So their number is bounded: all that strangers choose shares the labels of the first."""
    numbers = []
    await client.get("/metrics")  # which has labels of its own
    for name in ("first", "other"):
        hostile = bearer(token()) | {"User-Agent": name, "X-Request-ID": name, "Origin": name}
        for path in (SESSION, f"/{name}", f"{SESSION}?user={name}"):
            for method in ("DELETE", "GET", name.upper(), "OPTIONS"):
                await client.request(method, path, headers=hostile)
        numbers.append(sum(len(samples) for samples in (await scrape(client)).values()))
    assert numbers[0] == numbers[1]
    text = (await client.get("/metrics")).text
    assert not [chosen for chosen in ("first", "FIRST", "user_2", "sess_2", "203.0.113") if chosen in text]


async def test_numbers_are_there_from_the_start(client: httpx.AsyncClient) -> None:
    """Prometheus sees an increase only of what it has seen before. Keys of a PEM are never fetched: a 0 would alarm."""
    samples = await scrape(client)
    for name in ("events_lost_total", "events_spooled_total", "events_replayed_total", "spool_bytes"):
        assert samples[f"clerk_logout_{name}"] == [({}, 0)]
    assert samples.keys().isdisjoint({FETCHED_AT, "clerk_logout_key_fetches_total"})
    broken = {"method": "DELETE", "path": SESSION, "status": "500"}
    assert (broken, 0) in samples["clerk_logout_request_duration_seconds_count"]


async def test_the_format_is_the_one_that_is_accepted(client: httpx.AsyncClient) -> None:
    prometheus = "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;q=0.5"
    plain, as_asked = [await client.get("/metrics", headers={"Accept": accept}) for accept in ("*/*", prometheus)]
    assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert as_asked.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert as_asked.text.endswith("# EOF\n") > plain.text.endswith("# EOF\n")


async def test_promtool_finds_nothing_to_object_to(client: httpx.AsyncClient) -> None:
    promtool = need("promtool", "prometheus")
    await client.delete(SESSION)
    text = (await client.get("/metrics")).content
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, timeout=TIMEOUT, check=False)  # noqa: ASYNC221 - nothing else runs
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")

"""``GET /metrics``, as Prometheus asks for it."""

import re
import subprocess
from collections.abc import Mapping

import httpx
import pytest
import respx
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.routing import Route

from service.clerk.verdict import Auth, Reason
from service.endpoints.metrics import KEPT_FOR, MetricsText
from service.telemetry.metrics import Metrics
from tests.conftest import OpenClient
from tests.support.debian import need
from tests.support.lines import EventFile
from tests.support.processes import TIMEOUT
from tests.support.signing import ORIGIN, token

SESSION = "/v1/auth/session"
JWKS = "https://api.clerk.com/v1/jwks"
FETCHED_AT = "clerk_logout_keys_fetched_timestamp_seconds"


async def scrape(client: httpx.AsyncClient) -> dict[str, list[tuple[Mapping[str, str], float]]]:
    """The samples by name."""
    response = await client.get("/metrics")
    assert response.status_code == 200
    samples: dict[str, list[tuple[Mapping[str, str], float]]] = {}
    for family in text_string_to_metric_families(response.text):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    return samples


async def test_a_recorded_logout_is_counted_by_event_verdict_and_reason(client: httpx.AsyncClient) -> None:
    for headers in ({"Authorization": f"Bearer {token()}"}, {"Authorization": "Bearer x"}, {}, {}):
        await client.delete(SESSION, headers=headers)
    counted = {
        (of["event"], of["auth"], of["reason"]): n for of, n in (await scrape(client))["clerk_logout_events_total"]
    }
    assert counted == {
        ("user_logout", "verified", "none"): 1,
        ("user_logout", "rejected", "token-invalid"): 1,
        ("user_logout", "absent", "session-token-missing"): 2,
    }


async def test_a_request_is_counted_by_method_path_and_status(client: httpx.AsyncClient) -> None:
    await client.delete(SESSION)
    await client.delete(SESSION)
    await client.post(SESSION)
    await client.get("/healthz")
    await client.get("/user_2xyzUVW")
    seconds = (await scrape(client))["clerk_logout_request_duration_seconds_count"]
    assert {(of["method"], of["path"], of["status"]): count for of, count in seconds if count} == {
        ("DELETE", SESSION, "200"): 2,
        ("POST", SESSION, "405"): 1,
        ("GET", "/healthz", "200"): 1,
        ("GET", "other", "404"): 1,
    }


async def test_labels_hold_nothing_that_a_caller_chose(client: httpx.AsyncClient) -> None:
    """Every label's values are among those that the code knows, so their number is bounded."""
    hostile = {"Authorization": f"Bearer {token()}", "User-Agent": "agent", "X-Request-ID": "r", "Origin": "https://o"}
    for path in (SESSION, "/sess_2abcDEF", "/203.0.113.77", f"{SESSION}?user=user_2xyzUVW"):
        for method in ("DELETE", "GET", "BREW", "OPTIONS"):
            await client.request(method, path, headers=hostile)
    allowed: dict[str, set[str]] = {
        "event": {"user_logout", "session_used_after_logout"},
        "auth": set(Auth),
        "reason": {"none", *Reason},
        "result": {
            *("ok", "failed", "dropped", "admitted", "signed_out", "unknown", *Auth),
            *("recorded", "ignored", "refused"),
        },
        "method": {"DELETE", "GET", "HEAD", "OPTIONS", "POST", "other"},
        "path": {SESSION, "/v1/events/schema", "/healthz", "/readyz", "/metrics", "other"},
    }
    for samples in (await scrape(client)).values():
        for labels, _ in samples:
            for name, value in labels.items():
                if name == "status":
                    assert re.fullmatch("[1-5][0-9][0-9]", value)
                elif name != "le":
                    assert value in allowed[name]


async def test_a_preflight_is_counted(client: httpx.AsyncClient) -> None:
    await client.options(SESSION, headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "DELETE"})
    counted = (await scrape(client))["clerk_logout_request_duration_seconds_count"]
    (labels,) = [labels for labels, count in counted if count]
    assert labels == {"method": "OPTIONS", "path": SESSION, "status": "400"}


async def test_an_event_that_was_not_recorded_does_not_count(open_client: OpenClient) -> None:
    async with open_client(event_log="/dev/full", event_spool_dir="/dev/full/spool") as client:
        answer = (await client.delete(SESSION)).json()
        counted = (await scrape(client)).get("clerk_logout_events_total", [])
    assert sum(value for _, value in counted) == answer["recorded"]


async def test_it_tells_when_the_keys_were_fetched(open_client: OpenClient, respx_mock: respx.MockRouter) -> None:
    respx_mock.get(JWKS).respond(503)
    async with open_client(clerk_jwt_key=None, clerk_secret_key="sk_test_abc") as client:
        await client.delete(SESSION, headers={"Authorization": f"Bearer {token()}"})
        samples = await scrape(client)
    assert samples[FETCHED_AT] == [({}, 0)]
    assert samples["clerk_logout_key_fetches_total"] == [({"result": "ok"}, 0), ({"result": "failed"}, 1)]


async def test_with_a_pem_there_is_no_time_of_a_fetch(client: httpx.AsyncClient) -> None:
    """A 0 would be taken for missing keys."""
    samples = await scrape(client)
    assert FETCHED_AT not in samples
    assert "clerk_logout_key_fetches_total" not in samples


async def test_the_numbers_without_labels_are_there_from_the_start(client: httpx.AsyncClient) -> None:
    """Prometheus sees an increase only of what it has seen before."""
    samples = await scrape(client)
    for name in ("events_lost_total", "events_spooled_total", "events_replayed_total", "spool_bytes"):
        assert samples[f"clerk_logout_{name}"] == [({}, 0)]


async def test_asking_is_no_event(client: httpx.AsyncClient, events: EventFile) -> None:
    await client.get("/metrics")
    assert events.new() == []


CLASSIC = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        pytest.param(None, CLASSIC, id="nothing said"),
        pytest.param("*/*", CLASSIC, id="anything"),
        pytest.param("application/openmetrics-text;version=1.0.0;q=0.8,text/plain;q=0.5", OPENMETRICS, id="Prometheus"),
        pytest.param("application/openmetrics-text", OPENMETRICS, id="no version"),
        pytest.param("application/openmetrics-text;version=1.1.evil", OPENMETRICS, id="a version that goes on"),
        pytest.param("application/openmetrics-text;version=evil", CLASSIC, id="a version that is none"),
        pytest.param("text/plain;version=evil", CLASSIC, id="a version of text that is none"),
    ],
)
async def test_the_format_is_the_one_that_is_accepted(
    client: httpx.AsyncClient, accept: str | None, content_type: str
) -> None:
    response = await client.get("/metrics", headers={} if accept is None else {"Accept": accept})
    assert response.status_code == 200
    assert response.headers["content-type"] == content_type
    assert response.text.endswith("# EOF\n") == (content_type is OPENMETRICS)


async def test_a_text_is_rendered_once_a_second_however_often_it_is_asked_for() -> None:
    now = 100.0
    metrics = Metrics()
    app = Starlette(routes=[Route("/metrics", MetricsText(metrics.registry, clock=lambda: now).get)])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:

        async def lost(accept: str) -> str:
            text = (await client.get("/metrics", headers={"Accept": accept})).text
            (number,) = re.findall("^clerk_logout_events_lost_total (.*)$", text, re.MULTILINE)
            return str(number)

        assert await lost("text/plain") == "0.0"
        metrics.lost.inc()
        now += KEPT_FOR / 2
        assert await lost("text/plain") == "0.0"
        assert await lost("application/openmetrics-text") == "1.0"
        now += KEPT_FOR / 2
        assert await lost("text/plain") == "1.0"


async def test_a_text_that_is_kept_goes_out_with_the_headers_of_each_request(client: httpx.AsyncClient) -> None:
    for number in ("1", "2"):
        response = await client.get("/metrics", headers={"X-Request-ID": number, "Origin": ORIGIN})
        assert response.headers.get_list("x-request-id") == [number]
        assert response.headers.get_list("vary") == ["Origin"]


async def test_promtool_finds_nothing_to_object_to(client: httpx.AsyncClient) -> None:
    promtool = need("promtool", "prometheus")
    await client.delete(SESSION)
    text = (await client.get("/metrics")).content
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, timeout=TIMEOUT, check=False)  # noqa: ASYNC221 - nothing else runs
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")

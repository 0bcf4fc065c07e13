"""What surrounds every endpoint: common headers, the request id, and how requests are counted."""

import uuid
from typing import Any

import pytest
from prometheus_client import generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.endpoints.asgi import ResponseHeaders
from service.telemetry.metrics import Metrics

VISIBLE = bytes(range(0x21, 0x7F))


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers the request id that it was given."""
    del receive
    headers = [(b"x-own", b"1"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": scope["state"]["head"].request_id.encode()})


def surrounded(app: ASGIApp, metrics: Metrics | None = None) -> ResponseHeaders:
    return ResponseHeaders(
        app, origins=[], paths=["/", "/v1/auth/session"], methods=["DELETE", "GET"], metrics=metrics or Metrics()
    )


async def receive() -> Message:
    return {"type": "http.request"}


async def ask(
    *headers: tuple[bytes, bytes], app: ASGIApp = echo, metrics: Metrics | None = None, **scope: Any
) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """The headers and the body of the answer to a request with these headers."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    request = {"type": "http", "method": "GET", "path": "/", "headers": list(headers), **scope}
    await surrounded(app, metrics)(request, receive, send)
    start, body = sent
    return start["headers"], body["body"]


async def test_common_headers_follow_the_apps_own() -> None:
    """What it has of them comes once."""
    headers, seen = await ask()
    assert headers == [
        (b"x-own", b"1"),
        (b"cache-control", b"no-store"),
        (b"x-request-id", seen),
        (b"x-content-type-options", b"nosniff"),
    ]


@pytest.mark.parametrize("request_id", [b"a", b"r" * 128, VISIBLE[:50], VISIBLE[50:]])
async def test_a_usable_request_id_is_kept(request_id: bytes) -> None:
    headers, seen = await ask((b"x-request-id", request_id))
    assert dict(headers)[b"x-request-id"] == seen == request_id


@pytest.mark.parametrize(
    "request_id",
    [b"", b"r" * 129, b"two words", b"a\tb", b"a\x00b", b"a\x7fb", b"a\r\nSet-Cookie: x=1", b"a\n", b"\xff"],
)
async def test_an_unusable_request_id_is_replaced(request_id: bytes) -> None:
    headers, seen = await ask((b"x-request-id", request_id))
    assert dict(headers)[b"x-request-id"] == seen
    assert uuid.UUID(seen.decode()).version == 7


async def test_a_request_without_an_id_gets_a_new_one_each_time() -> None:
    (_, first), (_, second) = await ask(), await ask()
    assert uuid.UUID(first.decode()) != uuid.UUID(second.decode())


async def test_of_two_request_ids_the_first_counts() -> None:
    _, seen = await ask((b"x-request-id", b"first"), (b"x-request-id", b"second"))
    assert seen == b"first"


async def test_the_state_of_the_lifespan_stays() -> None:
    state: dict[str, Any] = {"recorder": "R"}
    await ask(state=state)
    assert state.keys() == {"recorder", "head"}


async def test_what_is_no_http_request_passes_untouched() -> None:
    seen: list[Scope] = []

    async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
        del receive, send
        seen.append(scope)

    async def send(message: Message) -> None:
        raise AssertionError(message)

    await surrounded(lifespan)({"type": "lifespan"}, receive, send)
    assert seen == [{"type": "lifespan"}]


# --- How long it took ------------------------------------------------------------------------------------------------


def counted(metrics: Metrics) -> list[str]:
    """The labels of the requests that were counted, with their numbers."""
    lines = generate_latest(metrics.registry).decode().splitlines()
    name = "clerk_logout_request_duration_seconds_count"
    return [line.removeprefix(name) for line in lines if line.startswith(name) and not line.endswith(" 0.0")]


async def test_requests_are_counted_by_method_path_and_status() -> None:
    metrics = Metrics()
    await ask(metrics=metrics)
    for number in range(5):  # strangers choose these, so they share a label
        await ask(metrics=metrics, method=f"M{number}", path=f"/{number}")
    assert counted(metrics) == [
        '{method="GET",path="/",status="200"} 1.0',
        '{method="other",path="other",status="200"} 5.0',
    ]


async def test_the_time_is_taken_when_the_response_starts() -> None:
    metrics = Metrics()

    async def looks(scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        assert counted(metrics) == []
        await send({"type": "http.response.start", "status": 200, "headers": []})
        assert len(counted(metrics)) == 1
        await send({"type": "http.response.body", "body": b""})

    await ask(app=looks, metrics=metrics)
    assert counted(metrics) == ['{method="GET",path="/",status="200"} 1.0']


@pytest.mark.parametrize(("has_begun", "status"), [(False, "500"), (True, "200")])
async def test_an_endpoint_that_breaks_is_counted_once(*, has_begun: bool, status: str) -> None:
    """As the 500 that Starlette answers, unless its own answer had begun."""

    async def breaks(scope: Scope, receive: Receive, send: Send) -> None:
        if has_begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError(scope, receive)

    metrics = Metrics()
    with pytest.raises(RuntimeError):
        await ask(app=breaks, metrics=metrics)
    assert counted(metrics) == [f'{{method="GET",path="/",status="{status}"}} 1.0']


def test_what_should_never_happen_is_counted_from_zero() -> None:
    """Prometheus does not see a series' first increase when the series begins with it."""
    metrics = Metrics()
    surrounded(echo, metrics)
    labels = {"method": "DELETE", "path": "/v1/auth/session", "status": "500"}
    assert metrics.registry.get_sample_value("clerk_logout_request_duration_seconds_count", labels) == 0

"""What surrounds every endpoint: common headers, the request id, and how requests are counted."""

import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from prometheus_client import generate_latest
from starlette.types import Message, Receive, Scope, Send

from service.app import ROUTES
from service.endpoints.asgi import ResponseHeaders
from service.telemetry.metrics import Metrics


@pytest.mark.parametrize(
    ("sent", "is_kept"),
    [
        *((usable, True) for usable in (b"r" * 128, bytes(range(0x21, 0x7F)))),
        *((odd, False) for odd in (b"", b"r" * 129, b"two words", b"a\n", b"\xff")),
    ],
)
async def test_a_usable_request_id_is_kept_and_another_replaced(
    client: httpx.AsyncClient, sent: bytes, *, is_kept: bool
) -> None:
    """Of two the first counts."""
    answers = [
        (await client.get("/healthz", headers=[(b"X-Request-ID", sent), (b"X-Request-ID", b"second")])).headers
        for _ in range(2)
    ]
    first, second = [answer["x-request-id"] for answer in answers]
    assert (first.encode() == sent) is (second.encode() == sent) is is_kept
    if not is_kept:
        assert first != second
        assert uuid.UUID(first).version == 7


# --- Around any application ------------------------------------------------------------------------------------------


async def receive() -> Message:
    return {"type": "http.request"}


async def ask(app: Callable[..., Any], metrics: Metrics, **scope: Any) -> list[Message]:
    """What is sent in answer to a request."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    surrounded = ResponseHeaders(app, origins=[], routes=ROUTES, metrics=metrics)
    await surrounded({"type": "http", "method": "GET", "path": "/", "headers": [], **scope}, receive, send)
    return sent


def counted(metrics: Metrics) -> list[str]:
    """The labels of the requests that were counted, with their numbers."""
    lines = generate_latest(metrics.registry).decode().splitlines()
    name = "clerk_logout_request_duration_seconds_count"
    return [line.removeprefix(name) for line in lines if line.startswith(name) and not line.endswith(" 0.0")]


async def test_requests_are_counted_when_their_response_starts() -> None:
    """What strangers choose shares a label. The common headers come once, behind the application's own."""
    metrics = Metrics()

    async def answers(scope: Scope, _: Receive, send: Send) -> None:
        before = len(counted(metrics))
        headers = [(b"x-own", b"1"), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        assert len(counted(metrics)) == before + (scope["method"] in {"GET", "M0"})
        await send({"type": "http.response.body", "body": scope["state"]["head"].request_id.encode()})

    start, body = await ask(answers, metrics, state={"recorder": "R"})
    assert start["headers"] == [
        (b"x-own", b"1"),
        (b"cache-control", b"no-store"),
        (b"x-request-id", body["body"]),
        (b"x-content-type-options", b"nosniff"),
    ]
    for number in range(5):
        await ask(answers, metrics, method=f"M{number}", path=f"/{number}")
    assert counted(metrics) == [
        '{method="GET",path="/",status="200"} 1.0',
        '{method="other",path="other",status="200"} 5.0',
    ]


@pytest.mark.parametrize(("has_begun", "status"), [(False, "500"), (True, "200")])
async def test_an_endpoint_that_breaks_is_counted_once(*, has_begun: bool, status: str) -> None:
    """As the 500 that Starlette answers, unless its own answer had begun."""

    async def breaks(scope: Scope, receive: Receive, send: Send) -> None:
        if has_begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError(scope, receive)

    metrics = Metrics()
    with pytest.raises(RuntimeError):
        await ask(breaks, metrics)
    assert counted(metrics) == [f'{{method="GET",path="/",status="{status}"}} 1.0']

import uuid
from typing import Any

import pytest
from prometheus_client import generate_latest
from starlette.types import Message, Receive, Scope, Send

from service.telemetry.metrics import Metrics
from service.endpoints.middleware import Durations, ResponseHeaders

VISIBLE = bytes(range(0x21, 0x7F))


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers the request id that it was given."""
    del receive
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-own", b"1")]})
    await send({"type": "http.response.body", "body": scope["state"]["request_id"].encode()})


async def receive() -> Message:
    return {"type": "http.request"}


async def ask(*headers: tuple[bytes, bytes], **scope: Any) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """The headers and the body of the answer to a request with these headers."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    request = {"type": "http", "method": "GET", "path": "/", "headers": list(headers), **scope}
    await ResponseHeaders(app)(request, receive, send)
    start, body = sent
    return start["headers"], body["body"]


async def test_every_response_is_not_to_be_stored_or_sniffed() -> None:
    headers, _ = await ask()
    assert dict(headers)[b"cache-control"] == b"no-store"
    assert dict(headers)[b"x-content-type-options"] == b"nosniff"


async def test_the_apps_own_headers_stay() -> None:
    headers, _ = await ask()
    assert headers[0] == (b"x-own", b"1")


@pytest.mark.parametrize(
    "request_id",
    [
        pytest.param(b"a", id="1 character"),
        pytest.param(b"r" * 128, id="128 characters"),
        pytest.param(VISIBLE[:50], id="visible ASCII"),
        pytest.param(VISIBLE[50:], id="more visible ASCII"),
    ],
)
async def test_a_usable_request_id_is_kept(request_id: bytes) -> None:
    headers, seen = await ask((b"x-request-id", request_id))
    assert dict(headers)[b"x-request-id"] == seen == request_id


@pytest.mark.parametrize(
    "request_id",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"r" * 129, id="129 characters"),
        pytest.param(b"two words", id="a space"),
        pytest.param(b"a\tb", id="a tab"),
        pytest.param(b"a\x00b", id="NUL"),
        pytest.param(b"a\x7fb", id="DEL"),
        pytest.param(b"a\r\nSet-Cookie: x=1", id="a header injected"),
        pytest.param(b"a\n", id="a newline at the end"),
        pytest.param("ä".encode(), id="UTF-8"),
        pytest.param(b"\xff\xfe", id="not ASCII"),
    ],
)
async def test_an_unusable_request_id_is_replaced_by_a_new_one(request_id: bytes) -> None:
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
    state = {"recorder": "R"}
    await ask((b"x-request-id", b"r"), state=state)
    assert state == {"recorder": "R", "request_id": "r"}


async def test_what_is_no_http_request_passes_untouched() -> None:
    seen: list[Scope] = []

    async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
        del receive, send
        seen.append(scope)

    async def send(message: Message) -> None:
        raise AssertionError(message)

    await ResponseHeaders(lifespan)({"type": "lifespan"}, receive, send)
    assert seen == [{"type": "lifespan"}]


# --- How long it took ------------------------------------------------------------------------------------------------


def counted(metrics: Metrics) -> list[str]:
    """The labels of the requests that were counted, with their numbers."""
    lines = generate_latest(metrics.registry).decode().splitlines()
    return [
        line.partition("_count")[2] for line in lines if line.startswith("clerk_logout_request_duration_seconds_count")
    ]


async def drop(_: Message) -> None:
    """Send nowhere."""


async def call(app: Any, metrics: Metrics, *, method: str = "GET", path: str = "/") -> None:
    middleware = ResponseHeaders(app, Durations(metrics, ["/"], ["GET"]))
    await middleware({"type": "http", "method": method, "path": path, "headers": []}, receive, drop)


async def test_a_request_is_counted_once_by_method_path_and_status() -> None:
    metrics = Metrics()
    await call(app, metrics)
    assert counted(metrics) == ['{method="GET",path="/",status="200"} 1.0']


async def test_a_path_or_method_that_is_not_ours_is_other() -> None:
    metrics = Metrics()
    for number in range(5):
        await call(app, metrics, method=f"M{number}", path=f"/{number}")
    assert counted(metrics) == ['{method="other",path="other",status="200"} 5.0']


async def test_the_time_is_taken_when_the_response_starts() -> None:
    metrics = Metrics()

    async def looks(scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        assert counted(metrics) == []
        await send({"type": "http.response.start", "status": 200, "headers": []})
        assert len(counted(metrics)) == 1
        await send({"type": "http.response.body", "body": b""})

    await call(looks, metrics)
    assert len(counted(metrics)) == 1


async def test_an_endpoint_that_breaks_counts_as_the_500_that_is_answered() -> None:
    async def breaks(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError(scope, receive, send)

    metrics = Metrics()
    with pytest.raises(RuntimeError):
        await call(breaks, metrics)
    assert counted(metrics) == ['{method="GET",path="/",status="500"} 1.0']


async def test_one_that_breaks_after_its_answer_began_counts_once() -> None:
    async def breaks_late(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError(scope, receive)

    metrics = Metrics()
    with pytest.raises(RuntimeError):
        await call(breaks_late, metrics)
    assert counted(metrics) == ['{method="GET",path="/",status="200"} 1.0']


def test_what_should_never_happen_is_counted_from_zero() -> None:
    """Prometheus does not see a series' first increase when the series begins with it."""
    metrics = Metrics()
    Durations(metrics, ["/v1/auth/session"], ["DELETE"])
    labels = {"method": "DELETE", "path": "/v1/auth/session", "status": "500"}
    assert metrics.registry.get_sample_value("clerk_logout_request_duration_seconds_count", labels) == 0

"""Two replicas, one of them down, behind a real nginx and a real Caddy with the configurations that are shipped."""

import http.client
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.lines import EventFile
from tests.support.processes import TIMEOUT, Server, free_port, serve
from tests.support.proxies import NGINX, Proxy, caddy, haproxy, nginx
from tests.support.signing import token

BEHIND_A_PROXY = {"EVENT_CLIENT_IP": "true", "FORWARDED_ALLOW_IPS": "127.0.0.1"}
LOGOUT = b"DELETE /v1/auth/session HTTP/1.1\r\nHost: service\r\n"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> EventFile:
    return EventFile(tmp_path_factory.mktemp("service") / "events.jsonl")


@pytest.fixture(scope="module")
def server(log: EventFile) -> Iterator[Server]:
    with serve(settings=BEHIND_A_PROXY | {"EVENT_LOG": str(log.path)}) as server:
        yield server


@pytest.fixture(scope="module")
def stopped() -> Iterator[Server]:
    with serve(settings={"PORT": str(free_port())}) as server:  # which nobody else is given afterwards
        assert server.stop() == 0
        yield server


@pytest.fixture(scope="module", params=[nginx, caddy], ids=["nginx", "caddy"])
def either(
    request: pytest.FixtureRequest, server: Server, stopped: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    with request.param(tmp_path_factory.mktemp("proxy"), server, stopped) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def proxy(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with nginx(tmp_path_factory.mktemp("nginx"), server) as proxy:
        yield proxy


@pytest.fixture
def events(log: EventFile, server: Server) -> EventFile:
    """The log behind what earlier tests wrote: lines come in order, on a busy machine some time after the answer."""
    last = httpx.delete(f"{server.url}/v1/auth/session", timeout=TIMEOUT).json()["event_id"]
    while log.awaited()[-1]["event_id"] != last:
        pass
    return log


def exchange(proxy: Proxy, sent: bytes) -> tuple[http.client.HTTPResponse, bytes]:
    """Send bytes, and give the first answer."""
    with socket.create_connection(proxy.address, TIMEOUT) as connection:
        connection.sendall(sent)
        response = http.client.HTTPResponse(connection)
        response.begin()
        return response, response.read()


def test_each_path_of_nginx_is_public_at_caddy_too() -> None:
    public = re.findall(r"location = (/v1/\S+) {", (NGINX / "clerk-logout.conf").read_text("utf-8"))
    assert f"@public path {' '.join(public)}\n" in Path("deploy/caddy/Caddyfile").read_text("utf-8")


def test_a_replica_that_is_down_is_not_noticed(either: Proxy) -> None:
    with httpx.Client(timeout=TIMEOUT) as client:
        assert {client.delete(f"{either.url}/v1/auth/session").status_code for _ in range(20)} == {200}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("DELETE", "/v1/auth/session", 200),
        ("GET", "/v1/auth/session", 401),
        ("OPTIONS", "/v1/auth/session", 400),
        ("DELETE", "/v1/auth/sessions", 501),
        ("POST", "/v1/webhooks/clerk", 501),
    ],
)
def test_what_is_public_is_answered_by_the_service(proxy: Proxy, method: str, path: str, status: int) -> None:
    headers = {"Origin": "https://a.example", "Access-Control-Request-Method": "DELETE"} if method == "OPTIONS" else {}
    answer = httpx.request(method, proxy.url + path, headers=headers, timeout=TIMEOUT)
    assert answer.status_code == status
    assert "x-request-id" in answer.headers


@pytest.mark.parametrize(
    "path",
    [
        "/metrics",
        "/%6detrics",
        "/metrics%00",
        "/v1/auth/session%2f..%2f..%2f..%2fmetrics",
        "/metrics/../v1/auth/session",
        "http://127.0.0.1/metrics",
        "/clerk-logout-error",
    ],
)
def test_the_rest_is_not_there(either: Proxy, path: str) -> None:
    answer, body = exchange(either, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    assert answer.status in {400, 404}
    assert json.loads(body)["success"] is False


@pytest.mark.parametrize(
    ("sent", "status", "message"),
    [
        pytest.param(b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n", 404, "Not Found", id="404"),
        pytest.param(b"\0\r\n\r\n", 400, "Bad Request", id="no request"),
        pytest.param(b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405, "Method Not Allowed", id="TRACE"),
        pytest.param(b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414, "URI Too Long", id="a long URL"),
        pytest.param(
            LOGOUT + b"X: " + b"a" * 20_000 + b"\r\n\r\n", 431, "Request Header Fields Too Large", id="a large header"
        ),
        pytest.param(LOGOUT + b"Content-Length: 262145\r\n\r\n", 413, "Content Too Large", id="a large body"),
    ],
)
def test_what_nginx_refuses_is_told_as_the_service_tells_it(
    proxy: Proxy, sent: bytes, status: int, message: str
) -> None:
    answer, body = exchange(proxy, sent)
    assert answer.status == status
    assert json.loads(body) == {"success": False, "message": message}
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"


def test_a_service_that_is_down_is_502(tmp_path: Path, stopped: Server) -> None:
    with nginx(tmp_path, stopped) as proxy:
        answer = httpx.delete(f"{proxy.url}/v1/auth/session", timeout=TIMEOUT)
    assert answer.status_code == 502
    assert answer.json() == {"success": False, "message": "Bad Gateway"}


@pytest.mark.parametrize("forged", ["192.0.2.7", "192.0.2.7, 127.0.0.1", "junk"])
def test_the_client_address_is_what_the_proxy_saw(either: Proxy, events: EventFile, forged: str) -> None:
    httpx.delete(f"{either.url}/v1/auth/session", headers={"X-Forwarded-For": forged}, timeout=TIMEOUT)
    (event,) = events.awaited()
    assert event["client_ip"] == "127.0.0.0"


@pytest.mark.parametrize("header", ["X-Forwarded-For: 192.0.2.7", f"Authorization: Bearer {token()}"])
@pytest.mark.parametrize("through", [nginx, haproxy], ids=["nginx", "haproxy"])
def test_a_trailer_is_no_header(server: Server, events: EventFile, tmp_path: Path, through: Any, header: str) -> None:
    """HAProxy passes them on. They are not the next request's either."""
    sent = LOGOUT + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n" + header.encode() + b"\r\n\r\n"
    with through(tmp_path, server) as proxy:
        for _ in range(5):
            exchange(proxy, sent)
            exchange(proxy, LOGOUT + b"\r\n")
    written = events.awaited(10)
    assert len(written) == 10
    assert {event["client_ip"] for event in written} == {"127.0.0.0"}
    assert {event["auth"] for event in written} == {"absent"}


def test_the_request_id_is_the_callers_if_it_is_one(proxy: Proxy, events: EventFile) -> None:
    asked = [b"abc", b"a" * 128, b"a" * 129, b"a b", "ü".encode(), b""]
    answered = []
    for request_id in asked:
        answer, _ = exchange(proxy, LOGOUT + b"X-Request-ID: " + request_id + b"\r\n\r\n")
        answered.append(answer.headers["x-request-id"])
    assert [event["request_id"] for event in events.awaited(len(asked))] == answered
    assert answered[:2] == ["abc", "a" * 128]
    assert all(len(request_id) == 32 for request_id in answered[2:])


def test_pipelined_requests_are_all_answered(proxy: Proxy) -> None:
    """nginx sends them on one after the other."""
    with socket.create_connection(proxy.address, TIMEOUT) as connection:
        connection.sendall((LOGOUT + b"\r\n") * 50 + LOGOUT + b"Connection: close\r\n\r\n")
        with connection.makefile("rb") as stream:
            assert stream.read().count(b"HTTP/1.1 200 OK") == 51


def test_a_client_that_sends_no_more_is_answered(proxy: Proxy) -> None:
    with socket.create_connection(proxy.address, TIMEOUT) as connection:
        connection.sendall(LOGOUT + b"Connection: close\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as stream:
            assert b'"success":true' in stream.read()


def test_an_upgrade_does_not_reach_the_service(proxy: Proxy) -> None:
    answer, _ = exchange(proxy, LOGOUT + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 1\r\n\r\na")
    assert answer.status == 200

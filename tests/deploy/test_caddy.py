"""Two replicas behind a real Caddy with the configuration that is shipped."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.lines import EventFile
from tests.support.processes import Server, serve
from tests.support.proxies import Proxy, caddy

BEHIND_A_PROXY = {"EVENT_CLIENT_IP": "true", "FORWARDED_ALLOW_IPS": "127.0.0.1"}


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> EventFile:
    return EventFile(tmp_path_factory.mktemp("caddy") / "events.jsonl")


@pytest.fixture(scope="module")
def stopped() -> Iterator[Server]:
    with serve() as server:
        assert server.stop() == 0
        yield server


@pytest.fixture(scope="module")
def proxy(events: EventFile, stopped: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    directory = tmp_path_factory.mktemp("caddy")
    with (
        serve(settings=BEHIND_A_PROXY | {"EVENT_LOG": str(events.path)}) as server,
        caddy(directory, server, stopped) as proxy,
    ):
        yield proxy


def test_a_replica_that_is_down_is_not_noticed(proxy: Proxy) -> None:
    with httpx.Client() as client:
        assert {client.delete(f"{proxy.url}/v1/auth/session").status_code for _ in range(20)} == {200}


@pytest.mark.parametrize("path", ["/", "/metrics", "/readyz", "/v1/auth/session/", "//metrics", "/%6detrics"])
def test_the_rest_is_not_there(proxy: Proxy, path: str) -> None:
    answer = httpx.get(proxy.url + path)
    assert (answer.status_code, answer.json()["success"]) == (404, False)


@pytest.mark.parametrize("forged", ["192.0.2.7", "192.0.2.7, 127.0.0.1"])
def test_the_client_address_is_what_caddy_saw(proxy: Proxy, events: EventFile, forged: str) -> None:
    events.new()
    assert httpx.delete(f"{proxy.url}/v1/auth/session", headers={"X-Forwarded-For": forged}).status_code == 200
    assert events.one()["client_ip"] == "127.0.0.0"


def test_each_path_of_nginx_is_public_here_too() -> None:
    nginx = Path("deploy/nginx/clerk-logout.conf").read_text("utf-8")
    public = re.findall(r"location = (/v1/\S+) {", nginx)
    assert f"@public path {' '.join(public)}\n" in Path("deploy/caddy/Caddyfile").read_text("utf-8")

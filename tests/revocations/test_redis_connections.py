"""The way to Redis: addresses, names, TLS, Unix sockets, and networks that drop what they carried."""

import asyncio
import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.revocations.batcher import cancel
from service.revocations.redis_commands import REVOKED, RedisCommands
from tests.revocations.conftest import AT, Flaky, opened, said, until_down, until_up
from tests.revocations.proxy import proxy_to
from tests.support.debian import need
from tests.support.redis_server import RedisServer, redis_server, until


async def test_a_given_up_answer_is_nobody_elses(own_redis: RedisServer) -> None:
    async with opened(own_redis.url) as store:
        own_redis.do("SET", REVOKED + "sess_a", "1.0")
        own_redis.do("SET", REVOKED + "sess_b", "2.0")
        for _ in range(10):
            own_redis.freeze()
            asking = asyncio.create_task(store.find("sess_a"))
            await asyncio.sleep(0.005)  # that it waits for its answer cannot be awaited
            await cancel([asking])
            own_redis.thaw()
            assert await store.find("sess_b") == 2.0


async def test_connections_that_redis_closed_are_replaced(redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    redis.do("SET", REVOKED + "sess_1", str(AT))
    async with opened(redis.url) as store:
        for _ in range(3):
            redis.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            assert await store.find("sess_1") == AT
    assert said(caplog) == []


async def test_dropped_connections_are_replaced(redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """As by a firewall that has forgotten them: nothing is refused, and nothing comes back."""
    async with proxy_to(redis.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        commands = Flaky(url, reply_timeout=2.0)
        async with opened(commands) as store:
            await until_up(store)
            redis.do("SET", REVOKED + "sess_1", str(AT))
            proxy.cut()
            assert await asyncio.gather(*(store.find("sess_1") for _ in range(20))) == [AT] * 20
            seen = commands.looks
            await until(lambda: commands.looks > seen + 1)  # a look finds its connection dropped as well
    assert said(caplog) == []


async def test_a_redis_far_away_is_usable(caplog: pytest.LogCaptureFixture) -> None:
    """Connecting takes many round trips, which no request has the time for."""
    with redis_server("--requirepass", "sesame") as server:
        async with proxy_to(server.port) as proxy:
            proxy.delay = 0.02
            url = f"redis://:sesame@127.0.0.1:{proxy.port}/3"
            async with opened(url) as store:
                await until_up(store)
                connections = proxy.connections
                for number in range(10):
                    await store.add([f"sess_{number}"], at=AT, seconds=75)
                    assert await store.find(f"another_{number}") is None
                assert proxy.connections == connections
    assert [line for line in said(caplog) if "no answer" in line] == []


async def test_a_unix_socket_is_used(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with redis_server("--unixsocket", str(path), "--requirepass", "sesame") as server:
        async with opened(f"unix://{path}?db=2&password=sesame") as store:
            assert store.problem is None
            await store.add(["sess_1"], at=AT, seconds=75)
        async with opened(f"redis://:sesame@127.0.0.1:{server.port}/2") as other:
            assert await other.find("sess_1") == AT


# --- Names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nobody.invalid", "redis..internal", "redis internal", "redis-1,redis-2"])
async def test_a_name_that_cannot_be_resolved_is_told(name: str) -> None:
    async with opened(f"redis://{name}:6379/0") as store:
        assert store.problem == "Redis: its host name cannot be resolved"


async def test_the_name_may_lead_to_another_server_later(
    redis: RedisServer, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failover by DNS: the server behind the old address lives on, as a replica, and so do connections to it."""
    leads_to = own_redis.port
    resolve = asyncio.get_running_loop().getaddrinfo

    async def getaddrinfo(*_: object, **options: int) -> object:
        return await resolve("127.0.0.1", leads_to, **options)

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    async with opened("redis://localhost:6379/0", refill=0) as store:
        await store.add(["sess_1"], at=AT, seconds=75)
        own_redis.do("REPLICAOF", "127.0.0.1", "1")
        assert await until_down(store) == "Redis: it is a replica, which takes no writes"
        leads_to = redis.port
        await until_up(store)
        assert redis.left(REVOKED + "sess_1") > 0


# --- TLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for the name localhost only, signed by itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    kind = "-x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([need("openssl", "openssl"), "req", *shlex.split(kind), *files], check=True, capture_output=True)
    return certificate, key


@pytest.fixture(scope="session")
def tls_redis(certificate: tuple[Path, Path]) -> Iterator[RedisServer]:
    """A Redis that speaks TLS only, and asks its clients for a certificate."""
    server = RedisServer("--tls-auth-clients", "optional", "--tls-ca-cert-file", str(certificate[0]), tls=certificate)
    server.start()
    yield server
    server.kill()


async def test_with_tls_the_certificate_is_that_of_the_name(
    tls_redis: RedisServer, certificate: tuple[Path, Path]
) -> None:
    by_name, by_number = (f"rediss://{host}:{tls_redis.port}/0" for host in ("localhost", "127.0.0.1"))
    trusting = f"?ssl_ca_certs={certificate[0]}"
    refused = "Redis: TLS with it failed; look at the certificates, and whether it speaks TLS at all"
    for url in (by_name, by_number + trusting):
        async with opened(url) as store:
            assert store.problem == refused
    async with opened(f"{by_name}{trusting}&ssl_certfile={certificate[0]}&ssl_keyfile={certificate[1]}") as store:
        await store.add(["sess_1"], at=AT, seconds=75)
        found = await asyncio.gather(*(store.find(f"sess_{number}") for number in range(20)))
        assert found == [None, AT, *[None] * 18]


async def test_a_frozen_redis_does_not_hold_up_the_end(tls_redis: RedisServer, certificate: tuple[Path, Path]) -> None:
    """A TLS connection that is closed in order waits for its other end."""
    async with opened(f"rediss://localhost:{tls_redis.port}/0?ssl_ca_certs={certificate[0]}") as store:
        await until_up(store)
        tls_redis.freeze()
        began = time.monotonic()
    assert time.monotonic() - began < 20, "asyncio would give it 30 s"
    tls_redis.thaw()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("ssl_ca_certs=/no/such/secret", "a certificate or key that it names cannot be read: No such"),
        (f"ssl_ca_certs={__file__}", "a certificate or key that it names cannot be used"),
        ("ssl_min_version=secret", "an option after ? cannot be used, or not with this kind of URL"),
    ],
)
def test_a_wrong_option_is_told_without_its_value(options: str, problem: str) -> None:
    with pytest.raises(ValueError, match=r"^a") as caught:
        RedisCommands(f"rediss://localhost?{options}")
    assert str(caught.value).startswith(problem)
    assert "secret" not in str(caught.value)

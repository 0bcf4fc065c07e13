"""The way to Redis: addresses, names, TLS, Unix sockets, and networks that drop what they carried."""

import asyncio
import math
import shlex
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from service.revocations import redis_commands
from service.revocations.batcher import cancel
from service.revocations.redis_commands import REVOKED, RedisCommands
from tests.revocations.conftest import AT, Flaky, opened, said, until_down, until_up
from tests.support.debian import need
from tests.support.redis_server import RedisServer, redis_server, until


class Proxy:
    """The way to Redis: long, or cut without a word.

    Attributes:
        delay: seconds that bytes take there, and as long back.
        connections: how many it has taken; ``open`` is how many of them have not ended.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self.delay = 0.0
        self.connections = self.open = self._last_cut = 0

    def cut(self) -> None:
        """From now on bring no answer back over the connections there are, as a firewall that has forgotten them."""
        self._last_cut = self.connections

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        number = self.connections
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._to)
        await asyncio.gather(self._pass(reader, there_writer), self._pass(there_reader, writer, number))
        self.open -= 1

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers_of: float = math.inf
    ) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                if answers_of > self._last_cut:
                    loop.call_later(self.delay, writer.write, data)
        await asyncio.sleep(self.delay)
        writer.close()


@asynccontextmanager
async def proxy_to(port: int) -> AsyncIterator[tuple[Proxy, str]]:
    """One, and where it listens; close the connections through it before it ends."""
    proxy = Proxy(port)
    async with await asyncio.start_server(proxy.serve, "127.0.0.1", 0) as server:
        yield proxy, "{}:{}".format(*server.sockets[0].getsockname())
        await until(lambda: proxy.open == 0)


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


async def test_connections_that_are_gone_are_replaced(redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """Dropped as by a firewall that has forgotten them: nothing is refused, and nothing comes back. Or closed."""
    async with proxy_to(redis.port) as (proxy, address):
        commands = Flaky(f"redis://{address}/0", reply_timeout=2.0)
        async with opened(commands) as store:
            await until_up(store)
            redis.do("SET", REVOKED + "sess_1", str(AT))
            proxy.cut()
            claiming = asyncio.create_task(store.claim("sess_2", seconds=60))  # it is taken, and nobody hears of it
            assert await asyncio.gather(*(store.find("sess_1") for _ in range(20))) == [AT] * 20
            assert await claiming
            seen = commands.looks
            await until(lambda: commands.looks > seen + 1)  # a look finds its connection dropped as well
            redis.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            assert await store.find("sess_1") == AT
    assert said(caplog) == []


async def test_a_redis_far_away_is_usable(caplog: pytest.LogCaptureFixture) -> None:
    """Connecting takes many round trips, which no request has the time for."""
    with redis_server("--requirepass", "sesame") as server:
        async with proxy_to(server.port) as (proxy, address):
            proxy.delay = 0.02
            async with opened(f"redis://:sesame@{address}/3") as store:
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


@pytest.mark.parametrize("name", ["nobody.invalid", "redis..internal"])
async def test_a_name_that_cannot_be_resolved_is_told(name: str) -> None:
    async with opened(f"redis://{name}:6379/0") as store:
        assert store.problem == "Redis: its host name cannot be resolved"


async def test_a_resolver_that_hangs_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each lookup holds a thread until it ends: the end of the process waits for it, and so does Clerk's name."""
    lookups: list[object] = []

    async def getaddrinfo(*host_and_port: object, **_: int) -> object:
        lookups.append(host_and_port)
        return await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(redis_commands, "CONNECT_TIMEOUT", 0.1)
    commands = Flaky("redis://redis.internal:6379/0")
    async with opened(commands) as store:
        await until(lambda: commands.resolves > 2)
        assert store.problem == "Redis: its host name could not be resolved in time"
    assert lookups == [("redis.internal", None)]


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


@pytest.fixture
def tls_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that speaks TLS only, asks for a certificate, and has one for the name localhost, signed by itself."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    kind = "-x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    kind += f" -keyout {key} -out {certificate}"
    subprocess.run([need("openssl", "openssl"), "req", *shlex.split(kind)], check=True, capture_output=True)
    trusting = ["--tls-auth-clients", "optional", "--tls-ca-cert-file", str(certificate)]
    server = RedisServer(*trusting, tls=(certificate, key))
    server.start()
    yield server
    server.kill()


async def test_with_tls_the_certificate_is_that_of_the_name(tls_redis: RedisServer, tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    by_name, by_number = (f"rediss://{host}:{tls_redis.port}/0" for host in ("localhost", "127.0.0.1"))
    trusting = f"?ssl_ca_certs={certificate}"
    refused = "Redis: TLS with it failed; look at the certificates, and whether it speaks TLS at all"
    for url in (by_name, by_number + trusting):
        async with opened(url) as store:
            assert store.problem == refused
    async with opened(f"{by_name}{trusting}&ssl_certfile={certificate}&ssl_keyfile={key}") as store:
        await store.add(["sess_1"], at=AT, seconds=75)
        assert await asyncio.gather(*(store.find(f"sess_{number}") for number in range(3))) == [None, AT, None]
        # A connection that is closed in order waits for its other end.
        tls_redis.freeze()
        began = time.monotonic()
    assert time.monotonic() - began < 20, "asyncio would give it 30 s"
    tls_redis.thaw()


def test_a_certificate_that_is_none_is_told() -> None:
    with pytest.raises(ValueError, match=r"^a certificate or key that it names cannot be used$"):
        RedisCommands(f"rediss://localhost?ssl_ca_certs={__file__}")

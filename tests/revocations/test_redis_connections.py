"""Connections, and the commands that go over them."""

import asyncio
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.revocations.redis_commands import REVOKED, Entry, Found, RedisCommands
from service.revocations.store import RevocationsUnavailableError
from tests.revocations.opened import AT, opened
from tests.support.debian import need
from tests.support.redis_server import RedisServer, until


async def time_of(commands: RedisCommands, session_id: str) -> str | None:
    return (await commands.find([session_id])).times[0]


@pytest.mark.parametrize("gives_up", ["the caller", "the time"])
async def test_the_answer_to_a_command_that_was_given_up_is_nobody_elses(own_redis: RedisServer, gives_up: str) -> None:
    commands = RedisCommands(own_redis.url, connections=1, within=5)
    await commands.probe()
    await commands.put([Entry("a", 1.0, 75), Entry("b", 2.0, 75)])
    for _ in range(20):
        own_redis.freeze()
        if gives_up == "the time":
            commands._connections.within = 0.01
            with pytest.raises(RevocationsUnavailableError, match=r"^it did not answer within "):
                await commands.find(["a"])
            commands._connections.within = 5
        else:
            asking = asyncio.create_task(commands.find(["a"]))
            await asyncio.sleep(0.005)  # that it waits for its answer cannot be awaited
            asking.cancel()
            await asyncio.wait({asking})
        own_redis.thaw()
        assert await time_of(commands, "b") == "2.0"
    await commands.close()


async def test_many_callers_share_one_connection(redis: RedisServer) -> None:
    commands = RedisCommands(redis.url, connections=1, within=30)
    await commands.probe()
    await commands.put([Entry(str(number), float(number), 75) for number in range(200)])
    found = await asyncio.gather(*(time_of(commands, str(number)) for number in range(200)))
    assert found == [f"{number}.0" for number in range(200)]
    assert commands._connections.opened == 1
    await commands.close()


async def test_waiting_for_a_turn_is_not_redis_being_late(own_redis: RedisServer) -> None:
    """One connection and 50 callers: all of them together take longer than one may."""
    commands = RedisCommands(own_redis.url, connections=1, within=5)
    await commands.probe()
    await commands.find(["a"])
    commands._connections.within = 1.0
    own_redis.do("CLIENT", "PAUSE", "700")
    start = time.monotonic()
    slow = asyncio.create_task(commands.find(["a"]))
    rest = [asyncio.create_task(commands.find(["a"])) for _ in range(50)]
    await slow
    own_redis.do("CLIENT", "PAUSE", "700")
    assert {(await task).times[0] for task in rest} == {None}
    assert time.monotonic() - start > 1.0
    await commands.close()


async def test_connections_that_redis_closed_are_replaced_without_anybody_noticing(redis: RedisServer) -> None:
    commands = RedisCommands(redis.url, within=5)
    await commands.probe()
    await commands.put([Entry("sess_1", AT, 75)])
    redis.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert await time_of(commands, "sess_1") == str(AT)
    assert commands._connections.opened == 2
    await commands.close()


async def test_a_probe_tells_whether_another_server_may_answer(redis: RedisServer) -> None:
    commands = RedisCommands(redis.url, within=5)
    probed = [await commands.probe(), await commands.probe()]
    await commands.close_connections()
    probed.append(await commands.probe())
    assert [one.is_new_connection for one in probed] == [True, False, True]
    assert len({one.marker for one in probed}) == 1
    redis.do("FLUSHALL")
    assert (await commands.probe()).marker != probed[0].marker
    await commands.close()


async def test_who_waits_while_all_are_closed_is_answered_over_a_new_one(own_redis: RedisServer) -> None:
    commands = RedisCommands(own_redis.url, within=5)
    await commands.find(["a"])
    own_redis.freeze()
    asking = asyncio.create_task(commands.find(["a"]))
    await asyncio.sleep(0.005)  # as above
    await commands.close_connections()
    own_redis.thaw()
    assert await asking == Found(None, [None])
    assert commands._connections.opened == 2
    await commands.close()


async def test_an_answer_that_comes_while_all_are_closed_keeps_no_connection(redis: RedisServer) -> None:
    commands = RedisCommands(redis.url, within=5)
    await commands.find(["a"])
    connections = commands._connections
    (connection,) = connections._open
    connections._open.clear()
    await connections.ask("GET", "a")
    assert connections._idle == []
    await connection.disconnect()
    await commands.close()


async def test_a_command_that_lay_in_a_frozen_redis_keeps_no_session_for_longer(own_redis: RedisServer) -> None:
    commands = RedisCommands(own_redis.url, within=5)
    await commands.probe()
    await commands.find(["a"])  # there is a connection over which the command can be sent
    own_redis.freeze()
    commands._connections.within = 0.01
    with pytest.raises(RevocationsUnavailableError):
        await commands.put([Entry("over", AT, 0.05), Entry("sess_1", AT, 2)])
    await asyncio.sleep(0.2)  # for so long it lies there
    own_redis.thaw()
    await until(lambda: own_redis.left(REVOKED + "sess_1") > 0)
    assert own_redis.left(REVOKED + "sess_1") < 1.9
    assert own_redis.left(REVOKED + "over") < 0
    await commands.close()


async def test_a_claim_whose_answer_nobody_waited_for_is_still_its_own(redis: RedisServer) -> None:
    commands, other = RedisCommands(redis.url, within=5), RedisCommands(redis.url, within=5)
    assert await commands.claim("sess_1", seconds=60) == 0
    assert await commands.claim("sess_1", seconds=60) == 0
    assert 0 < await other.claim("sess_1", seconds=60) <= 60
    await commands.close()
    await other.close()


# --- TLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def tls_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RedisServer, Path]]:
    """A Redis that speaks TLS, and its certificate, which is for the name localhost only."""
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    made = [
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-keyout",
        str(key),
        "-out",
        str(certificate),
    ]
    subprocess.run([need("openssl", "openssl"), *made, *subject], check=True, capture_output=True)
    server = RedisServer(tls=(certificate, key))
    server.start()
    try:
        yield server, certificate
    finally:
        server.kill()


async def test_with_tls_the_certificate_must_be_that_of_the_name(
    tls_redis: tuple[RedisServer, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, certificate = tls_redis
    by_name, by_number = (f"rediss://{host}:{server.port}/0" for host in ("localhost", "127.0.0.1"))
    refused = "Redis: TLS with it failed; look at its certificate, and whether it speaks TLS at all"
    async with opened(by_name) as store:
        assert store.problem == refused
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with opened(by_number) as store:
        assert store.problem == refused
    async with opened(by_name) as store:
        assert store.problem is None
        await store.add(["sess_1"], at=AT, seconds=75)
        assert await store.find("sess_1") == AT


async def test_the_certificates_are_read_once(
    tls_redis: tuple[RedisServer, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes so long that it would hold up everybody else if each connection did so."""
    server, certificate = tls_redis
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    made: list[ssl.SSLContext] = []
    make = ssl.create_default_context

    def counted() -> ssl.SSLContext:
        made.append(make())
        return made[-1]

    monkeypatch.setattr(ssl, "create_default_context", counted)
    async with opened(f"rediss://localhost:{server.port}/0") as store:
        await asyncio.gather(*(store.claim(f"sess_{number}", seconds=60) for number in range(20)))
        assert store._redis._connections.opened > 1
    assert len(made) == 1


async def test_a_connection_is_closed_at_once_whether_or_not_redis_takes_leave(
    tls_redis: tuple[RedisServer, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, certificate = tls_redis
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    commands = RedisCommands(f"rediss://localhost:{server.port}/0", within=5)
    await commands.look_up()
    await commands.find(["a"])
    (connection,) = commands._connections._open
    assert connection._writer is not None
    socket = connection._writer.get_extra_info("socket")
    server.freeze()
    await commands.close()
    await asyncio.sleep(0)
    assert socket.fileno() == -1
    server.thaw()


async def test_tls_where_there_is_none_is_told(redis: RedisServer) -> None:
    async with opened(redis.url.replace("redis://", "rediss://"), within=0.2) as store:
        assert store.problem is not None


@pytest.mark.parametrize("database", [0, 3])
async def test_the_database_is_that_of_the_url(redis: RedisServer, database: int) -> None:
    async with opened(redis.url.removesuffix("0") + str(database)) as store:
        await store.add(["sess_1"], at=AT, seconds=75)
    async with opened(redis.url) as other:
        assert await other.find("sess_1") == (AT if database == 0 else None)

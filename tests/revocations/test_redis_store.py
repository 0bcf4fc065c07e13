"""Redis in trouble. How long anything takes is measured in tests/faults/test_redis.py."""

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress

import pytest
from redis import exceptions

from service.revocations.redis_commands import REVOKED, WITHIN, Entry, RedisCommands, _in_words
from service.revocations.redis_store import RedisStore
from service.revocations.store import RevocationsUnavailableError
from tests.revocations.conftest import Clock
from tests.support.redis_server import RedisServer, redis_server, until

AT = 1_790_000_000.5


@asynccontextmanager
async def opened(url: str, *, within: float = 1.0) -> AsyncIterator[RedisStore]:
    store = RedisStore(RedisCommands(url, within=within))
    await store.start()
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """One that the test may kill and freeze."""
    with redis_server() as server:
        yield server


async def until_up(store: RedisStore) -> None:
    await until(lambda: store.problem is None)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged, with seconds left out."""
    return [record.getMessage().partition(", after")[0] for record in caplog.records if record.levelno > logging.INFO]


# --- An outage -------------------------------------------------------------------------------------------------------


async def test_a_redis_that_is_killed_and_comes_back(own_redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    async with opened(own_redis.url) as store, opened(own_redis.url) as other:
        await store.add(["before"], at=AT, seconds=75)
        own_redis.kill()
        for _ in range(3):
            with pytest.raises(RevocationsUnavailableError, match=r"^Redis: "):
                await store.add(["during"], at=AT, seconds=75)
        await until(lambda: store._down_since is not None)
        assert store.problem == "Redis: it cannot be reached: connection refused"
        # What this process has signed out it knows; of the rest nobody can say anything.
        assert await store.find("before") == AT
        assert await store.find("during") == AT
        with pytest.raises(RevocationsUnavailableError):
            await store.find("another")
        with pytest.raises(RevocationsUnavailableError):
            await store.claim("during", seconds=60)

        own_redis.start()
        await until_up(store)
        # It has come back empty, and knows both all the same before anybody asks it.
        assert 0 < own_redis.left(REVOKED + "before") <= 75
        assert 0 < own_redis.left(REVOKED + "during") <= 75
        with suppress(RevocationsUnavailableError):
            await other.find("before")  # it may not have noticed the outage
        await until_up(other)
        assert await other.find("before") == AT
        assert await other.find("during") == AT
        assert await store.claim("during", seconds=60)
    assert (
        said(caplog).count("the revocation list cannot be used. Redis: it cannot be reached: connection refused") == 1
    )
    assert "the revocation list can be used again" in said(caplog)


async def test_a_redis_that_is_frozen_and_goes_on(own_redis: RedisServer) -> None:
    async with opened(own_redis.url) as store, opened(own_redis.url) as other:
        own_redis.freeze()
        with pytest.raises(RevocationsUnavailableError, match=r"^Redis: it did not answer within 1000 ms$"):
            await store.add(["sess_1"], at=AT, seconds=75)
        await until(lambda: store._down_since is not None)
        own_redis.thaw()
        await until_up(store)
        await until_up(other)
        assert await other.find("sess_1") == AT


async def test_it_starts_without_redis_and_finds_it_later(caplog: pytest.LogCaptureFixture) -> None:
    server = RedisServer()
    async with opened(server.url) as store:
        assert store.problem == "Redis: it cannot be reached: connection refused"
        with pytest.raises(RevocationsUnavailableError, match="connection refused"):
            await store.add(["sess_1"], at=AT, seconds=75)
        server.start()
        try:
            await until_up(store)
            assert server.left(REVOKED + "sess_1") > 0
        finally:
            server.kill()
    assert said(caplog)[:2] == [
        "the revocation list cannot be used. Redis: it cannot be reached: connection refused",
        "the revocation list can be used again",
    ]


async def test_thousands_of_sessions_wait_for_redis(own_redis: RedisServer) -> None:
    session_ids = [f"sess_{number}" for number in range(2000)]
    async with opened(own_redis.url) as store:
        own_redis.kill()
        with pytest.raises(RevocationsUnavailableError):
            await store.add(session_ids, at=AT, seconds=75)
        own_redis.start()
        await until_up(store)
        assert own_redis.keys() >= 2000
        assert len(store._owed) == 0


async def test_what_ended_while_it_waited_is_not_brought(own_redis: RedisServer, clock: Clock) -> None:
    store = RedisStore(RedisCommands(own_redis.url), clock=clock)
    own_redis.kill()
    await store.start()
    with pytest.raises(RevocationsUnavailableError):
        await store.add(["sess_1", "sess_2"], at=AT, seconds=10)
    with pytest.raises(RevocationsUnavailableError):
        await store.add(["sess_2"], at=AT, seconds=75)
    clock.now += 10
    own_redis.start()
    await until_up(store)
    assert own_redis.left(REVOKED + "sess_1") < 0
    assert 60 < own_redis.left(REVOKED + "sess_2") <= 65
    await store.close()


async def test_what_has_ended_is_not_owed(redis: RedisServer, clock: Clock) -> None:
    store = RedisStore(RedisCommands(redis.url), clock=clock)
    await store._own.add(["sess_1"], at=AT, seconds=10)
    clock.now += 10
    store._own._signed_out._seconds.clear()  # as if nobody had let go of it yet
    await store._owe_everything()
    assert len(store._owed) == 0
    await store.close()


async def test_an_idle_process_notices_an_outage_too(own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.revocations.redis_store.LOOK_WHILE_UP_EVERY", 0.01)
    changes: list[bool] = []
    store = RedisStore(RedisCommands(own_redis.url, within=5), on_change=changes.append)
    await store.start()
    own_redis.kill()
    await until(lambda: store.problem is not None)
    assert changes[0] is True
    assert changes[-1] is False
    await store.close()


class Flaky(RedisCommands):
    """Redis, with one answer that is lost now and then."""

    lose_next = False

    async def put(self, entries: Sequence[Entry]) -> None:
        if self.lose_next:
            self.lose_next = False
            raise RevocationsUnavailableError("lost")
        await super().put(entries)


async def test_one_lost_answer_is_no_outage(redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    commands = Flaky(redis.url, within=5)
    store = RedisStore(commands)
    await store.start()
    commands.lose_next = True
    with pytest.raises(RevocationsUnavailableError):
        await store.add(["sess_1"], at=AT, seconds=75)
    await until_up(store)
    assert redis.left(REVOKED + "sess_1") > 0
    assert said(caplog) == []
    await store.close()


async def test_what_could_not_be_brought_is_brought_the_next_time(redis: RedisServer) -> None:
    commands = Flaky(redis.url, within=5)
    store = RedisStore(commands)
    await store._own.add(["sess_1"], at=AT, seconds=75)
    await store._owe_everything()
    commands.lose_next = True
    with pytest.raises(RevocationsUnavailableError):
        await store._bring_what_is_owed()
    await store._look()
    assert store.problem is None
    assert redis.left(REVOKED + "sess_1") > 0
    await store.close()


async def test_what_a_caller_gave_up_is_brought_by_the_next_look(own_redis: RedisServer) -> None:
    store = RedisStore(RedisCommands(own_redis.url, within=5))
    await store.start()
    own_redis.freeze()
    adding = asyncio.create_task(store.add(["sess_1"], at=AT, seconds=75))
    await until(lambda: len(store._own) == 1)
    adding.cancel()
    await asyncio.wait({adding})
    own_redis.thaw()
    assert len(store._owed) == 1
    store._call_failed.set()
    await until(lambda: own_redis.left(REVOKED + "sess_1") > 0)
    await store.close()


# --- Connections -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gives_up", ["the caller", "the time"])
async def test_the_answer_to_a_command_that_was_given_up_is_nobody_elses(own_redis: RedisServer, gives_up: str) -> None:
    commands = RedisCommands(own_redis.url, connections=1, within=5)
    await commands.put([Entry("a", 1.0, 75), Entry("b", 2.0, 75)])
    for _ in range(20):
        own_redis.freeze()
        if gives_up == "the time":
            commands._within = 0.01
            with pytest.raises(RevocationsUnavailableError):
                await commands.get("a")
            commands._within = 5
        else:
            asking = asyncio.create_task(commands.get("a"))
            await asyncio.sleep(0.005)  # that it waits for its answer cannot be awaited
            asking.cancel()
            await asyncio.wait({asking})
        own_redis.thaw()
        assert await commands.get("b") == 2.0
    await commands.close()


async def test_many_callers_share_one_connection(redis: RedisServer) -> None:
    commands = RedisCommands(redis.url, connections=1, within=30)
    await commands.put([Entry(str(number), float(number), 75) for number in range(200)])
    found = await asyncio.gather(*(commands.get(str(number)) for number in range(200)))
    assert found == [float(number) for number in range(200)]
    assert len(commands._client.connection_pool._available_connections) == 1
    await commands.close()


async def test_whoever_waits_for_a_connection_for_too_long_gives_up(own_redis: RedisServer) -> None:
    commands = RedisCommands(own_redis.url, connections=2, within=5)
    await commands.probe()
    commands._within = WITHIN
    own_redis.freeze()
    results = await asyncio.gather(*(commands.get("a") for _ in range(50)), return_exceptions=True)
    assert {str(result) for result in results} == {"it did not answer within 50 ms"}
    own_redis.thaw()
    commands._within = 5
    assert await asyncio.gather(*(commands.get("a") for _ in range(50))) == [None] * 50
    await commands.close()


async def test_connections_that_redis_closed_are_replaced_without_anybody_noticing(redis: RedisServer) -> None:
    commands = RedisCommands(redis.url, within=5)
    await commands.put([Entry("sess_1", AT, 75)])
    (connection,) = commands._client.connection_pool._available_connections
    redis.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    reader = connection._reader
    assert reader is not None
    await until(reader.at_eof)
    assert await commands.get("sess_1") == AT
    await commands.close()


# --- Words -----------------------------------------------------------------------------------------------------------


async def problem_of(url: str) -> str | None:
    async with opened(url, within=5) as store:
        return store.problem


async def test_a_wrong_or_missing_password_is_told_and_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    with redis_server("--requirepass", "sesame-open") as server:
        right, wrong, none = (server.url.replace("//", f"//{user}") for user in (":sesame-open@", "u:guessed@", ""))
        problem = "Redis: it does not accept the user name or the password in REVOCATIONS_URL"
        assert await problem_of(right) is None
        assert await problem_of(wrong) == problem
        assert await problem_of(none) == problem
    assert "sesame" not in caplog.text
    assert "guessed" not in caplog.text


async def test_a_password_may_hold_any_character_as_percent_and_two_digits() -> None:
    with redis_server("--requirepass", "p@ss/w#rd?") as server:
        assert await problem_of(server.url.replace("//", "//:p%40ss%2Fw%23rd%3F@")) is None


async def test_a_user_who_may_not_do_what_is_needed_is_told(redis: RedisServer) -> None:
    redis.do("ACL", "SETUSER", "reader", "on", ">secret", "~clerk-logout:*", "+get")
    problem = await problem_of(redis.url.replace("//", "//reader:secret@"))
    assert problem == "Redis: its user may not run EVAL, GET and SET on keys that start with clerk-logout:"
    redis.do("ACL", "SETUSER", "reader", "+eval", "+set", "+pttl")
    assert await problem_of(redis.url.replace("//", "//reader:secret@")) is None


async def test_with_too_many_clients_it_waits_until_some_have_gone() -> None:
    with redis_server("--maxclients", "3") as server:
        held = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(3)]
        async with opened(server.url, within=5) as store:
            assert store.problem is not None  # Redis says why, but its answer may be lost in the closing
            for one in held:
                one.close()
            await until_up(store)


async def test_a_redis_without_memory_is_told(redis: RedisServer) -> None:
    redis.do("CONFIG", "SET", "maxmemory", "1")
    try:
        assert await problem_of(redis.url) == "Redis: it has no memory left"
    finally:
        redis.do("CONFIG", "SET", "maxmemory", "0")


async def test_a_replica_is_told() -> None:
    with redis_server("--replicaof", "127.0.0.1 1") as server:
        assert await problem_of(server.url) == "Redis: it is a replica, which takes no writes"


async def test_a_database_that_is_not_there_is_told(redis: RedisServer) -> None:
    problem = await problem_of(redis.url.removesuffix("0") + "99")
    assert problem == "Redis: it does not have the database whose number REVOCATIONS_URL names"


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        (("SET", REVOKED + "sess_1", "soon"), "Redis: it holds a value that this service did not write"),
        (("LPUSH", REVOKED + "sess_1", "1"), "Redis: it refused a command (WRONGTYPE)"),
    ],
)
async def test_a_value_of_somebody_else_is_told(redis: RedisServer, command: tuple[str, ...], problem: str) -> None:
    redis.do(*command)
    async with opened(redis.url, within=5) as store:
        with pytest.raises(RevocationsUnavailableError) as raised:
            await store.find("sess_1")
    assert str(raised.value) == problem


async def test_what_is_not_redis_is_told() -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await problem_of(f"redis://127.0.0.1:{port}/0") == "Redis: what answers there is not Redis"


def lost_because_of(cause: BaseException) -> BaseException:
    """As redis-py raises it."""
    try:
        try:
            raise cause
        except OSError:
            raise exceptions.ConnectionError("redis://:secret@host") from None
    except exceptions.ConnectionError as error:
        return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (exceptions.BusyLoadingError("secret"), "it is still loading its data"),
        (exceptions.ResponseError("MISCONF secret"), "it refused a command (MISCONF)"),
        (exceptions.ConnectionError("max number of clients reached"), "it has as many clients as it allows"),
        (exceptions.ResponseError("secret"), "it refused a command"),
        (exceptions.ConnectionError("secret"), "the connection to it was lost"),
        (
            lost_because_of(ConnectionRefusedError(111, "Connection refused")),
            "it cannot be reached: connection refused",
        ),
        (lost_because_of(OSError("several: secret")), "it cannot be reached"),
        (lost_because_of(ssl.SSLError(1, "secret")), "TLS with it failed; look at its certificate, and whether it "),
        (lost_because_of(socket.gaierror(-2, "secret")), "its host name cannot be resolved"),
        (AttributeError("secret"), "AttributeError"),
    ],
)
def test_every_error_has_words_that_hold_no_secret(error: BaseException, words: str) -> None:
    assert _in_words(error).startswith(words)
    assert "secret" not in _in_words(error)


# --- Names -----------------------------------------------------------------------------------------------------------


async def test_a_resolver_that_hangs_is_asked_once() -> None:
    asked: list[tuple[str, int]] = []
    answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()

    async def resolve(host: str, port: int) -> object:
        asked.append((host, port))
        return await answer

    commands = RedisCommands("redis://redis.internal", within=0.01, resolve=resolve)
    for _ in range(5):
        with pytest.raises(RevocationsUnavailableError, match=r"^its host name could not be looked up in time$"):
            await commands.resolve()
    assert asked == [("redis.internal", 6379)]
    answer.set_result([])
    await until(lambda: commands._lookup is not None and commands._lookup.done())
    await commands.resolve()
    await commands.close()


async def test_a_name_that_does_not_exist_is_told() -> None:
    async def resolve(_host: str, _port: int) -> object:
        raise socket.gaierror(-2, "Name or service not known")

    store = RedisStore(RedisCommands("redis://nobody.invalid:6379/0", resolve=resolve))
    await store.start()
    assert store.problem == "Redis: its host name cannot be resolved"
    await store.close()


async def test_a_lookup_under_way_does_not_hold_up_the_end() -> None:
    async def resolve(_host: str, _port: int) -> object:
        return await asyncio.Event().wait()

    commands = RedisCommands("redis://redis.internal", within=0.01, resolve=resolve)
    with pytest.raises(RevocationsUnavailableError):
        await commands.resolve()
    await commands.close()

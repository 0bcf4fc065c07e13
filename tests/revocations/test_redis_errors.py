"""What an operator is told about a Redis that cannot be used."""

import asyncio
import socket
import ssl

import pytest
from redis import exceptions

from service.revocations.redis_commands import REVOKED
from service.revocations.redis_errors import in_words
from service.revocations.store import RevocationsUnavailableError
from tests.revocations.opened import AT, opened, until_up
from tests.support.redis_server import RedisServer, redis_server


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
    assert (
        problem
        == "Redis: its user may not run EVAL, GET, MGET, SET, PTTL and TIME on keys that start with clerk-logout:"
    )
    redis.do("ACL", "SETUSER", "reader", "+eval", "+mget", "+set", "+pttl", "+time")
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


@pytest.mark.parametrize("value", ["soon", "nan", "-inf", "\udcff"])
async def test_a_value_of_somebody_else_is_told_to_who_asks_for_it_and_is_no_outage(
    redis: RedisServer, value: str
) -> None:
    async with opened(redis.url) as store:
        await store.add(["sess_2"], at=AT, seconds=75)
        redis.do("SET", REVOKED + "sess_1", value)
        found = await asyncio.gather(*(store.find(f"sess_{number}") for number in range(4)), return_exceptions=True)
        assert [found[0], found[2], found[3]] == [None, AT, None]
        assert isinstance(found[1], RevocationsUnavailableError)
        assert str(found[1]) == "Redis: it holds a value that this service did not write"
        assert store.problem is None


@pytest.mark.parametrize("command", [("SET", "soon"), ("LPUSH", "1")])
async def test_a_value_of_somebody_else_is_replaced_by_a_sign_out(redis: RedisServer, command: tuple[str, str]) -> None:
    word, value = command
    redis.do(word, REVOKED + "sess_1", value)
    async with opened(redis.url) as store, opened(redis.url) as other:
        await store.add(["sess_1"], at=AT, seconds=75)
        assert await other.find("sess_1") == AT


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
        (UnicodeError("label empty or too long: secret"), "its host name cannot be resolved"),
        (ValueError("secret"), "what answers there is not Redis"),
        (AttributeError("secret"), "AttributeError"),
    ],
)
def test_every_error_has_words_that_hold_no_secret(error: BaseException, words: str) -> None:
    assert in_words(error).startswith(words)
    assert "secret" not in in_words(error)

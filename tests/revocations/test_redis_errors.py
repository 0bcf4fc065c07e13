"""What an operator is told about a Redis that cannot be used."""

import asyncio
import ssl

import pytest
from redis import exceptions

from service.revocations.redis_commands import REPORTED, REVOKED, describe_error
from service.revocations.revocation_list import RevocationsUnavailableError
from tests.revocations.conftest import AT, opened
from tests.support.redis_server import RedisServer, redis_server, until


async def problem_of(url: str) -> str | None:
    async with opened(url) as store:
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


async def test_a_user_who_may_not_do_what_is_needed_is_told(redis: RedisServer) -> None:
    url = redis.url.replace("//", "//reader:secret@")
    redis.do("ACL", "SETUSER", "reader", "on", ">secret", "~clerk-logout:*", "+get")
    problem = "Redis: its user may not run EVAL, GET, PTTL and SET on clerk-logout:*"
    assert await problem_of(url) == problem
    redis.do("ACL", "SETUSER", "reader", "+eval", "+pttl")
    assert await problem_of(url) == problem
    redis.do("ACL", "SETUSER", "reader", "+set")
    async with opened(url) as store:
        await store.add(["sess_1"], at=AT, seconds=75)
        assert await store.find("another") is None
        assert await store.claim("sess_1", seconds=60)
        assert redis.left(REPORTED + "sess_1") > 0


async def test_a_redis_that_may_evict_sessions_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    with redis_server("--maxmemory-policy", "allkeys-lru") as server:
        async with opened(server.url) as store:
            assert store.problem is None
            assert store.warning is not None
            assert "maxmemory-policy is allkeys-lru" in store.warning
            server.do("CONFIG", "SET", "maxmemory-policy", "noeviction")
            server.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await until(lambda: store.warning is None)
    assert caplog.text.count("the revocation list may lose sessions") == 1


@pytest.mark.parametrize(
    ("options", "database", "problem"),
    [
        (["--maxmemory", "1"], "0", "it has no memory left"),
        ([], "99", "it does not have the database whose number REVOCATIONS_URL names"),
    ],
)
async def test_what_the_server_cannot_do_is_told(options: list[str], database: str, problem: str) -> None:
    with redis_server(*options) as server:
        assert await problem_of(server.url.removesuffix("0") + database) == f"Redis: {problem}"


@pytest.mark.parametrize("command", [("SET", "soon"), ("SET", "nan"), ("SET", "\udcff"), ("LPUSH", "1")])
async def test_a_value_of_somebody_else_fails_closed(redis: RedisServer, command: tuple[str, str]) -> None:
    """For who asks for it; nobody else notices."""
    word, value = command
    async with opened(redis.url) as store:
        await store.add(["sess_2"], at=AT, seconds=75)
        redis.do(word, REVOKED + "sess_1", value)
        found = await asyncio.gather(*(store.find(f"sess_{number}") for number in range(4)), return_exceptions=True)
        assert [found[0], found[2], found[3]] == [None, AT, None]
        assert isinstance(found[1], RevocationsUnavailableError)
        assert str(found[1]) == "Redis: it holds a value that this service did not write"
        assert store.problem is None
        await store.add(["sess_1"], at=AT, seconds=75)  # which replaces it
        async with opened(redis.url) as other:
            assert await other.find("sess_1") == AT


@pytest.mark.parametrize("reply", ["HTTP/1.1 400 Bad Request", "+OK", "*2\r\n:1\r\n:2", "$3\r\nx", "-MOVED"])
async def test_what_does_not_answer_as_redis_does_is_told(reply: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while b"EVAL" not in await reader.read(1 << 16):
            writer.write(b"+OK\r\n" * 2)
        writer.write(reply.encode() + b"\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert (await problem_of(f"redis://127.0.0.1:{port}/0") or "").startswith("Redis: ")


def lost_because_of(cause: BaseException) -> BaseException:
    """As redis-py raises it."""
    error = exceptions.ConnectionError("redis://:secret@host")
    error.__context__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (exceptions.TimeoutError("secret"), "it did not answer in time"),
        (exceptions.ResponseError("MISCONF secret"), "it refused a command (MISCONF)"),
        (exceptions.ConnectionError("max number of clients reached"), "it has as many clients as it allows"),
        (exceptions.ConnectionError("secret"), "the connection to it was lost"),
        (lost_because_of(OSError(111, "secret")), "it cannot be reached: connection refused"),
        (lost_because_of(OSError("several: secret")), "it cannot be reached"),
        (lost_because_of(ssl.SSLError(1, "secret")), "TLS with it failed; look at the certificates, and "),
        (exceptions.MovedError("1 127.0.0.1:1"), "it is part of a Redis Cluster"),
        (AttributeError("secret"), "AttributeError"),
    ],
)
def test_every_error_has_words_that_hold_no_secret(error: BaseException, words: str) -> None:
    assert describe_error(error).startswith(words)
    assert "secret" not in describe_error(error)

"""Where Redis is, with a resolver that fails or hangs."""

import asyncio
import socket
import subprocess
import sys
import threading

import pytest

from service.revocations.redis_address import RedisAddress, resolve_in_a_thread
from service.revocations.redis_commands import RedisCommands
from service.revocations.redis_store import RedisStore
from service.revocations.store import RevocationsUnavailableError
from tests.revocations.opened import AT, opened, until_up
from tests.support.processes import TIMEOUT
from tests.support.redis_server import RedisServer, until


async def nobody(_host: str, _port: int) -> list[str]:
    raise AssertionError("a number needs no lookup")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "fe80::1%eth0"])
async def test_a_numeric_host_needs_no_lookup(host: str) -> None:
    address = RedisAddress(host, 6379, within=0, resolve=nobody)
    await address.look_up()
    assert address.addresses == [host]


async def test_a_resolver_that_hangs_is_asked_once() -> None:
    asked: list[tuple[str, int]] = []
    answer: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()

    async def resolve(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return await answer

    address = RedisAddress("redis.internal", 6379, within=0.01, resolve=resolve)
    for _ in range(5):
        with pytest.raises(RevocationsUnavailableError, match=r"^its host name could not be looked up in time$"):
            await address.look_up()
    assert asked == [("redis.internal", 6379)]
    answer.set_result(["192.0.2.1"])
    await until(lambda: address._lookup is not None and address._lookup.done())
    await address.look_up()
    assert address.addresses == ["192.0.2.1"]
    address.close()


@pytest.mark.parametrize("error", [socket.gaierror(-2, "unknown"), UnicodeError("label empty or too long")])
async def test_a_name_that_does_not_exist_is_told(error: Exception) -> None:
    async def resolve(_host: str, _port: int) -> list[str]:
        raise error

    store = RedisStore(RedisCommands("redis://nobody.invalid:6379/0", resolve=resolve))
    await store.start()
    assert store.problem == "Redis: its host name cannot be resolved"
    await store.close()


async def test_a_lookup_under_way_does_not_hold_up_the_end() -> None:
    async def resolve(_host: str, _port: int) -> list[str]:
        await asyncio.Event().wait()
        raise AssertionError

    commands = RedisCommands("redis://redis.internal", within=0.01, resolve=resolve)
    with pytest.raises(RevocationsUnavailableError):
        await commands.look_up()
    with pytest.raises(RevocationsUnavailableError, match=r"^its host name has not been looked up yet$"):
        await commands.probe()
    await commands.close()


async def test_a_name_is_looked_up_and_each_of_its_addresses_tried(redis: RedisServer) -> None:
    """Nothing listens at the first, as with localhost where Redis has IPv4 only."""

    async def resolve(_host: str, _port: int) -> list[str]:
        return ["127.0.0.2", "127.0.0.1"]

    commands = RedisCommands(redis.url.replace("127.0.0.1", "redis.internal"), within=5, resolve=resolve)
    store = RedisStore(commands)
    await store.start()
    assert store.problem is None
    await store.close()


async def test_the_name_may_lead_to_another_server_later(redis: RedisServer, own_redis: RedisServer) -> None:
    """A failover by DNS: the server behind the old address lives on, as a replica, and so do the connections to it."""
    leads_to = own_redis.port

    async def resolve(_host: str, _port: int) -> list[str]:
        return ["127.0.0.1"]

    commands = RedisCommands(f"redis://redis.internal:{own_redis.port}/0", within=5, resolve=resolve)
    store = RedisStore(commands, refill=0)
    await store.start()
    await store.add(["sess_1"], at=AT, seconds=75)
    own_redis.do("REPLICAOF", "127.0.0.1", "1")
    await until(lambda: store.problem == "Redis: it is a replica, which takes no writes")
    assert leads_to == own_redis.port
    commands._address.port = redis.port  # in place of another address, of which this machine has one
    await until_up(store)
    async with opened(redis.url) as other:
        assert await other.find("sess_1") == AT
    await store.close()


async def test_localhost_is_found_in_a_thread() -> None:
    assert {"127.0.0.1", "::1"} & set(await resolve_in_a_thread("localhost", 6379))


async def test_a_name_that_cannot_be_encoded_is_an_error_and_no_end_of_the_thread() -> None:
    with pytest.raises(UnicodeError):
        await resolve_in_a_thread("host..name", 6379)


async def test_who_waits_no_more_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    may_answer, answered = threading.Event(), threading.Event()

    def slow(*_: object, **__: object) -> list[object]:
        may_answer.wait(TIMEOUT)
        answered.set()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    looking = asyncio.create_task(resolve_in_a_thread("redis.internal", 6379))
    await asyncio.sleep(0)
    looking.cancel()
    await asyncio.wait({looking})
    may_answer.set()
    await until(lambda: answered.is_set() and "redis-lookup" not in {thread.name for thread in threading.enumerate()})
    await asyncio.sleep(0)
    assert looking.cancelled()


HANGS = """
import asyncio, socket, threading
from service.revocations.redis_commands import RedisCommands
from service.revocations.redis_store import RedisStore
socket.getaddrinfo = lambda *_, **__: threading.Event().wait()
async def main():
    store = RedisStore(RedisCommands("redis://redis.internal", within=0.01))
    await store.start()
    await store.close()
    print(store.problem)
asyncio.run(main())
"""


def test_a_resolver_that_hangs_does_not_hold_up_the_end_of_the_process() -> None:
    ended = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=TIMEOUT, check=True)
    assert ended.stdout == "Redis: its host name could not be looked up in time\n"

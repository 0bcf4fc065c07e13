"""Redis in trouble. How long anything takes is measured in tests/faults/test_redis.py."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress

import pytest

from service.revocations.redis_commands import MARKER, REPORTED, REVOKED, Entry, Found, Probed, RedisCommands
from service.revocations.redis_health import LOST
from service.revocations.redis_store import RedisStore
from service.revocations.store import RevocationsUnavailableError
from tests.revocations.conftest import Clock
from tests.revocations.opened import AT, opened, said, until_up
from tests.support.processes import TIMEOUT
from tests.support.redis_server import RedisServer, until

# --- An outage -------------------------------------------------------------------------------------------------------


async def test_a_redis_that_is_killed_and_comes_back(own_redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    async with opened(own_redis.url, refill=1.5) as store, opened(own_redis.url, refill=1.5) as other:
        await store.add(["before"], at=AT, seconds=75)
        own_redis.kill()
        for _ in range(3):
            with pytest.raises(RevocationsUnavailableError, match=r"^Redis: "):
                await store.add(["during"], at=AT, seconds=75)
        await until(lambda: store._watch._down_since is not None)
        assert store.problem == "Redis: it cannot be reached: connection refused"
        # What this process has signed out it knows; of the rest nobody can say anything.
        assert await store.find("before") == AT
        assert await store.find("during") == AT
        with pytest.raises(RevocationsUnavailableError):
            await store.find("another")

        own_redis.start()
        await until(lambda: store.problem == LOST)
        await until_up(store)
        # It has come back empty, and knows both all the same before anybody asks it.
        assert 0 < own_redis.left(REVOKED + "before") <= 75
        assert 0 < own_redis.left(REVOKED + "during") <= 75
        with suppress(RevocationsUnavailableError):
            await other.find("before")  # it may not have noticed the outage
        await until_up(other)
        assert await other.find("before") == AT
        assert await other.find("during") == AT
    assert (
        said(caplog).count("the revocation list cannot be used. Redis: it cannot be reached: connection refused") == 1
    )
    assert "the revocation list can be used again" in said(caplog)


async def test_a_redis_that_is_frozen_and_goes_on(own_redis: RedisServer) -> None:
    async with opened(own_redis.url, within=0.3) as store, opened(own_redis.url, within=0.3) as other:
        own_redis.freeze()
        with pytest.raises(RevocationsUnavailableError, match=r"^Redis: no answer in time$"):
            await store.add(["sess_1"], at=AT, seconds=75)
        await until(lambda: store._watch._down_since is not None)
        assert store.problem == "Redis: it did not answer within 300 ms"
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
        await until(lambda: own_redis.keys() >= 2000)
        await until(lambda: len(store._owed) == 0)


async def test_an_idle_process_notices_an_outage_too(own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.revocations.redis_watch.LOOK_WHILE_UP_EVERY", 0.01)
    changes: list[bool] = []
    store = RedisStore(RedisCommands(own_redis.url, within=5), on_change=changes.append)
    await store.start()
    own_redis.kill()
    await until(lambda: store.problem is not None)
    assert changes[0] is True
    assert changes[-1] is False
    await store.close()


class Flaky(RedisCommands):
    """Redis, with answers that are lost now and then."""

    lost_puts = 0
    lost_probes = 0

    async def put(self, entries: Sequence[Entry]) -> None:
        if self.lost_puts > 0:
            self.lost_puts -= 1
            raise RevocationsUnavailableError("lost")
        await super().put(entries)

    async def probe(self) -> Probed:
        if self.lost_probes > 0:
            self.lost_probes -= 1
            raise RevocationsUnavailableError("lost")
        return await super().probe()


@pytest.fixture
async def flaky(redis: RedisServer) -> AsyncIterator[tuple[Flaky, RedisStore]]:
    commands = Flaky(redis.url, within=5)
    store = RedisStore(commands)
    await store.start()
    yield commands, store
    await store.close()


async def test_one_lost_answer_is_no_outage(
    redis: RedisServer, flaky: tuple[Flaky, RedisStore], caplog: pytest.LogCaptureFixture
) -> None:
    commands, store = flaky
    commands.lost_puts = 1
    with pytest.raises(RevocationsUnavailableError, match=r"^Redis: lost$"):
        await store.add(["sess_1"], at=AT, seconds=75)
    # Nobody else notices.
    assert store.problem is None
    assert await store.find("another") is None
    await until(lambda: redis.left(REVOKED + "sess_1") > 0)
    assert said(caplog) == []


async def test_one_look_that_fails_is_no_outage(
    flaky: tuple[Flaky, RedisStore], caplog: pytest.LogCaptureFixture
) -> None:
    commands, store = flaky
    commands.lost_probes = 1
    await store._watch._look(was_suspected=False)
    assert store.problem is None
    await until(lambda: not store._watch._suspected.is_set())
    assert said(caplog) == []


async def test_a_call_and_the_look_after_it_that_fail_are_one(
    flaky: tuple[Flaky, RedisStore], caplog: pytest.LogCaptureFixture
) -> None:
    commands, store = flaky
    commands.lost_puts = commands.lost_probes = 1
    with pytest.raises(RevocationsUnavailableError):
        await store.add(["sess_1"], at=AT, seconds=75)
    await until(lambda: said(caplog) != [])
    await until_up(store)
    assert said(caplog) == [
        "the revocation list cannot be used. Redis: lost",
        "the revocation list can be used again",
    ]


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
    store._watch._suspected.set()
    await until(lambda: own_redis.left(REVOKED + "sess_1") > 0)
    await store.close()


async def test_what_is_owed_at_the_end_is_brought_then(
    redis: RedisServer, flaky: tuple[Flaky, RedisStore], caplog: pytest.LogCaptureFixture
) -> None:
    commands, store = flaky
    assert store._watch._looking is not None
    store._watch._looking.cancel()
    commands.lost_puts = 1
    with pytest.raises(RevocationsUnavailableError):
        await store.add(["sess_1"], at=AT, seconds=75)
    assert redis.left(REVOKED + "sess_1") < 0
    await store.close()
    assert redis.left(REVOKED + "sess_1") > 0
    assert said(caplog) == []


@pytest.mark.parametrize("trouble", [RedisServer.kill, RedisServer.freeze])
async def test_what_cannot_be_brought_then_is_told_and_holds_up_nothing(
    own_redis: RedisServer, trouble: Callable[[RedisServer], None], caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(own_redis.url) as store:
        trouble(own_redis)
        adding = asyncio.create_task(store.add(["sess_1", "sess_2"], at=AT, seconds=75))
        await until(lambda: len(store._own) == 2)
        adding.cancel()
        await asyncio.wait({adding})
        before = time.monotonic()
    assert time.monotonic() - before < TIMEOUT
    assert "2 signed-out sessions could not be brought to Redis before the end" in said(caplog)


async def test_what_is_owed_is_brought_at_the_end_also_to_a_redis_that_was_never_there_before() -> None:
    server = RedisServer()
    async with opened(server.url) as store:
        with pytest.raises(RevocationsUnavailableError):
            await store.add(["sess_1"], at=AT, seconds=75)
        assert store._watch._looking is not None
        store._watch._looking.cancel()
        server.start()
    try:
        assert server.left(REVOKED + "sess_1") > 0
    finally:
        server.kill()


async def test_a_store_that_was_never_started_is_closed_all_the_same(redis: RedisServer) -> None:
    store = RedisStore(RedisCommands(redis.url))
    await store.close()
    assert store.problem == "Redis: not connected yet"


# --- A burst ---------------------------------------------------------------------------------------------------------


class Counting(RedisCommands):
    """Counts round trips."""

    finds = 0
    puts = 0

    async def find(self, session_ids: Sequence[str]) -> Found:
        self.finds += 1
        return await super().find(session_ids)

    async def put(self, entries: Sequence[Entry]) -> None:
        self.puts += 1
        await super().put(entries)


async def test_a_thousand_questions_at_once_are_a_handful_of_commands(redis: RedisServer) -> None:
    commands = Counting(redis.url, within=5)
    store = RedisStore(commands)
    await store.start()
    await store.add([f"sess_{number}" for number in range(0, 1000, 2)], at=AT, seconds=75)
    found = await asyncio.gather(*(store.find(f"sess_{number}") for number in range(1000)))
    assert found == [AT, None] * 500
    assert commands.finds < 10
    await store.close()


async def test_a_thousand_sign_outs_at_once_are_a_handful_of_commands(redis: RedisServer) -> None:
    commands = Counting(redis.url, within=5)
    store = RedisStore(commands)
    await store.start()
    await asyncio.gather(*(store.add([f"sess_{number}"], at=AT, seconds=75) for number in range(1000)))
    assert commands.puts < 10
    async with opened(redis.url) as other:
        assert await other.find("sess_999") == AT
    await store.close()


async def test_a_busy_event_loop_is_no_outage(redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """As in a burst: every turn of the loop takes longer than all of a request may."""
    async with opened(redis.url, within=0.05) as store:
        busy = asyncio.create_task(keep_busy())
        assert await asyncio.gather(*(store.find(f"sess_{number}") for number in range(10))) == [None] * 10
        busy.cancel()
        assert store.problem is None
    assert said(caplog) == []


async def keep_busy() -> None:
    while True:
        time.sleep(0.06)  # noqa: ASYNC251 - that is the point
        await asyncio.sleep(0)


async def test_who_waits_for_too_long_gives_up_alone(own_redis: RedisServer) -> None:
    async with opened(own_redis.url) as store:
        own_redis.freeze()
        with pytest.raises(RevocationsUnavailableError, match=r"^Redis: no answer in time$"):
            await store.find("sess_1", within=0.01)
        assert store.problem is None
        own_redis.thaw()
        assert await store.find("sess_1") is None


# --- A list that is lost ---------------------------------------------------------------------------------------------


async def lose(redis: RedisServer, how: str) -> None:
    if how == "restart":
        redis.kill()
        redis.start()
    else:
        redis.do(how)


@pytest.mark.parametrize("how", ["restart", "FLUSHALL"])
async def test_a_list_that_is_lost_between_two_questions_is_noticed_by_the_second(
    own_redis: RedisServer, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The other process must never let a token of this session pass, from the first question on."""
    async with opened(own_redis.url, refill=1.5) as store, opened(own_redis.url, refill=1.5) as other:
        await store.add(["sess_1"], at=AT, seconds=75)
        await until_up(other)
        assert await other.find("sess_1") == AT
        await lose(own_redis, how)
        with pytest.raises(RevocationsUnavailableError):
            await other.find("sess_1")
        await until_up(other)
        assert await other.find("sess_1") == AT
        assert await store.find("sess_1") == AT
    assert f"the revocation list cannot be used. {LOST}" in said(caplog)


async def test_until_the_others_have_had_their_time_a_lost_list_is_not_believed(
    redis: RedisServer, clock: Clock
) -> None:
    async with opened(redis.url, refill=2, clock=clock) as store:
        redis.do("FLUSHALL")
        for passed in (0.0, 1.9):
            clock.now = 1000 + passed
            await store._watch._look(was_suspected=False)
            assert store.problem == LOST
            with pytest.raises(RevocationsUnavailableError):
                await store.find("sess_1")
        clock.now = 1002.0
        await store._watch._look(was_suspected=False)
        assert store.problem is None
        assert await store.find("sess_1") is None


async def test_an_idle_process_brings_back_what_only_it_knows(redis: RedisServer) -> None:
    async with opened(redis.url) as store:
        await store.add(["sess_1"], at=AT, seconds=75)
        redis.do("FLUSHALL")
        await until(lambda: redis.left(REVOKED + "sess_1") > 0)
        assert redis.do("EXISTS", MARKER) == ":1"


async def test_what_a_server_that_took_over_may_have_missed_is_brought_again(redis: RedisServer) -> None:
    """After a failover the marker is there, and the last sign-outs may not be."""
    async with opened(redis.url) as store:
        await store.add(["sess_1"], at=AT, seconds=75)
        redis.do("DEL", REVOKED + "sess_1")
        redis.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await until(lambda: redis.left(REVOKED + "sess_1") > 0)
        assert store.problem is None


# --- Claims ----------------------------------------------------------------------------------------------------------


async def test_a_claim_is_asked_of_redis_once(redis: RedisServer) -> None:
    async with opened(redis.url) as store:
        assert await store.claim("sess_1", seconds=60)
        redis.do("DEL", REPORTED + "sess_1")
        assert not await store.claim("sess_1", seconds=60)


async def test_a_claim_that_redis_does_not_answer_is_the_first_of_this_process(own_redis: RedisServer) -> None:
    async with opened(own_redis.url) as store, opened(own_redis.url) as other:
        await store.find("sess_1")  # there is a connection over which the claim can be sent
        own_redis.freeze()
        assert await store.claim("sess_1", seconds=60, within=0.01)
        assert not await store.claim("sess_1", seconds=60, within=0.01)
        own_redis.thaw()
        await until(lambda: own_redis.left(REPORTED + "sess_1") > 0)
        assert not await store.claim("sess_1", seconds=60)
        assert not await other.claim("sess_1", seconds=60)


async def test_a_claim_while_redis_is_down_is_the_first_of_this_process() -> None:
    async with opened(RedisServer().url) as store:
        assert await store.claim("sess_1", seconds=60)
        assert not await store.claim("sess_1", seconds=60)


async def test_a_claim_whose_caller_has_gone_is_claimed_by_the_next(own_redis: RedisServer) -> None:
    async with opened(own_redis.url) as store:
        own_redis.freeze()
        claiming = asyncio.create_task(store.claim("sess_1", seconds=60))
        await until(lambda: store._own._claimed.get("sess_1") is not None)
        await asyncio.sleep(0.01)  # that the claim was sent cannot be awaited
        claiming.cancel()
        await asyncio.wait({claiming})
        own_redis.thaw()
        assert await store.claim("sess_1", seconds=60)

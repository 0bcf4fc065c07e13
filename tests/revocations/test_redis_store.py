"""Redis in trouble. How long anything takes is measured in tests/faults/test_redis.py."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from service.revocations.batcher import cancel
from service.revocations.redis_commands import FIND, LOST, MARKER, REVOKED, Entry, RedisCommands
from service.revocations.redis_store import RedisStore
from service.revocations.revocation_list import RevocationsUnavailableError
from service.telemetry.metrics import Metrics
from tests.revocations.conftest import AT, SECONDS, Clock, Flaky, opened, said, until_down, until_known, until_up
from tests.support.redis_server import RedisServer, until

REFUSED = "Redis: it cannot be reached: connection refused"
DOWN = "the revocation list cannot be used"
UP = "the revocation list can be used again"


@pytest.fixture
def flaky(redis: RedisServer) -> Flaky:
    return Flaky(redis.url)


async def fails_to_add(store: RedisStore, *session_ids: str) -> None:
    with pytest.raises(RevocationsUnavailableError, match=r"^Redis: "):
        await store.add(session_ids, at=AT, seconds=75)


# --- An outage -------------------------------------------------------------------------------------------------------


async def test_a_killed_redis_learns_everything_again(own_redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    async with opened(own_redis.url, refill=1.5) as store, opened(own_redis.url, refill=1.5) as other:
        await store.add(["before"], at=AT, seconds=75)
        own_redis.kill()
        await fails_to_add(store, "during")
        await until(lambda: store.problem == REFUSED)
        await fails_to_add(store, "while down")
        # What this process has signed out it knows; of the rest nobody can say anything.
        assert [await store.find(session_id) for session_id in ("before", "during", "while down")] == [AT] * 3
        with pytest.raises(RevocationsUnavailableError):
            await store.find("another")
        await until_down(other)  # although nobody asks it
        own_redis.start()
        # It has come back empty, and knows all of them before anybody asks it.
        await until(lambda: store.problem == LOST)
        await until_up(store, other)
        assert [await other.find(session_id) for session_id in ("before", "during", "while down")] == [AT] * 3
        assert 0 < own_redis.left(REVOKED + "before") <= 75
    assert sorted(said(caplog)) == [UP] * 2 + [DOWN] * 2


async def test_it_starts_without_redis_and_finds_it_later(caplog: pytest.LogCaptureFixture) -> None:
    server, metrics = RedisServer(), Metrics()
    async with opened(server.url, metrics=metrics) as store:
        assert store.problem == REFUSED
        await fails_to_add(store, "sess_1")
        server.start()
        try:
            await until_up(store)
            assert server.left(REVOKED + "sess_1") > 0
            assert metrics.registry.get_sample_value("clerk_logout_revocations_up") == 1
        finally:
            server.kill()
    assert said(caplog)[:2] == [DOWN, UP]


async def test_what_waits_for_redis_is_bounded(own_redis: RedisServer) -> None:
    """By what this process remembers: what ends later is brought then."""
    async with opened(own_redis.url, max_sessions=2) as store:
        own_redis.kill()
        await until_down(store)
        for number in range(10):
            await fails_to_add(store, f"sess_{number}")
        own_redis.start()
        await until_known(own_redis, REVOKED + "sess_9")
        assert own_redis.keys() <= 2 + 2  # the marker and the probe


@pytest.mark.parametrize(("lost", "lines"), [(1, []), (2, [DOWN, UP])])
async def test_one_lost_answer_is_no_outage(
    redis: RedisServer, flaky: Flaky, caplog: pytest.LogCaptureFixture, lost: int, lines: list[str]
) -> None:
    """What was lost is brought by a look; one that fails as well is an outage."""
    async with opened(flaky) as store:
        flaky.lost_puts = lost
        await fails_to_add(store, "sess_1")
        await until_known(redis, REVOKED + "sess_1")
        await until_up(store)
    assert said(caplog) == lines


async def test_one_signed_out_again_during_a_look_is_brought_again(
    redis: RedisServer, flaky: Flaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(flaky) as store:

        async def put(batches: Sequence[Sequence[Entry]]) -> Sequence[None]:
            monkeypatch.undo()
            flaky.lost_puts = 1
            with pytest.raises(RevocationsUnavailableError):
                await store.add(["sess_1"], at=AT - 9, seconds=600)
            return await flaky.put(batches)

        monkeypatch.setattr(flaky, "put", put)  # for the look
        flaky.lost_puts = 1
        await fails_to_add(store, "sess_1")
        await until(lambda: redis.left(REVOKED + "sess_1") > 75)
        assert redis.do("GET", REVOKED + "sess_1").endswith(str(AT - 9))


async def test_what_a_caller_gave_up_is_brought_by_a_look(own_redis: RedisServer) -> None:
    async with opened(own_redis.url) as store:
        own_redis.freeze()
        adding = asyncio.create_task(store.add(["sess_1"], at=AT, seconds=75))
        await asyncio.sleep(0)  # it has remembered the session
        await cancel([adding])
        own_redis.thaw()
        await until_known(own_redis, REVOKED + "sess_1")


async def test_what_cannot_be_brought_at_the_end_is_told(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(own_redis.url) as store:
        own_redis.kill()
        await fails_to_add(store, "sess_1", "sess_2")
    assert "2 signed-out sessions could not be brought to Redis before the end" in said(caplog)


async def test_a_thousand_questions_are_a_handful_of_commands(flaky: Flaky) -> None:
    async with opened(flaky) as store, opened(flaky) as other:
        await store.add([f"sess_{number}" for number in range(0, 1000, 2)], at=AT, seconds=75)
        before = flaky.finds
        found = await asyncio.gather(*(other.find(f"sess_{number}") for number in range(1000)))
        assert found == [AT, None] * 500
        assert flaky.finds - before < 10


async def test_a_late_answer_is_given_up_and_no_outage(own_redis: RedisServer) -> None:
    """A claim is then this process's own: better claimed twice than by nobody."""
    async with opened(own_redis.url) as store:
        own_redis.freeze()
        with pytest.raises(RevocationsUnavailableError, match=r"^Redis: no answer in time$"):
            await store.find("sess_1", within=0.01)
        assert [await store.claim("sess_1", seconds=60, within=0.01) for _ in range(2)] == [True, False]
        assert store.problem is None
        own_redis.thaw()
        assert await store.find("sess_1") is None


# --- A list that is lost ---------------------------------------------------------------------------------------------


async def test_a_lost_list_is_noticed_by_the_next_question(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The other process must never let a token of this session pass, from the first question on."""
    async with opened(redis.url, refill=1.5) as store, opened(redis.url, refill=1.5) as other:
        await store.add(["sess_1"], at=AT, seconds=75)
        redis.do("FLUSHALL")
        with pytest.raises(RevocationsUnavailableError):
            await other.find("sess_1")
        await until_down(other)
        await until_known(redis, f"{REVOKED}sess_1")  # a machine that stood still may not have brought it in time
        await until_up(other)
        assert await other.find("sess_1") == AT
    assert f"{DOWN}. {LOST}" in caplog.messages


class Overtaken(RedisCommands):
    """Redis, where a probe is answered before a question that was asked earlier."""

    async def _eval(self, script: str, keys: list[str], values: Sequence[str | int], *, replies: int) -> list[Any]:
        if script == FIND and len(keys) > 1:
            await self.probe()
        return await super()._eval(script, keys, values, replies=replies)


async def test_a_question_that_a_look_overtakes_is_not_answered(redis: RedisServer) -> None:
    """From a list that was lost before, and that nobody has filled again."""
    async with opened(Overtaken(redis.url, reply_timeout=SECONDS)) as store:
        redis.do("FLUSHALL")
        with pytest.raises(RevocationsUnavailableError, match="it has lost the list"):
            await store.find("sess_1")


async def test_a_lost_list_is_not_believed_at_once(redis: RedisServer, clock: Clock) -> None:
    """The other processes need time to bring back what they know."""
    async with opened(redis.url, refill=2, monotonic=clock) as store:
        redis.do("FLUSHALL")
        with pytest.raises(RevocationsUnavailableError):
            await store.find("sess_1")
        await until(lambda: redis.do("EXISTS", MARKER) == ":1")  # a look has come by
        clock.now += 1.9
        await asyncio.sleep(0.6)  # so do two more
        assert store.problem == LOST
        clock.now += 2.1  # two seconds from when the look's answer was read, which may be after the first step
        await until_up(store)
        assert await store.find("sess_1") is None


async def test_to_one_that_took_over_the_last_sign_outs_are_brought(redis: RedisServer) -> None:
    """The marker is there, and they may not be."""
    async with opened(redis.url) as store:
        await store.add(["sess_1"], at=AT, seconds=75)
        redis.do("DEL", REVOKED + "sess_1")
        redis.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await until_known(redis, REVOKED + "sess_1")

"""The stores against a model that is too simple to be wrong, over any sequence of calls and of time that passes."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from service.revocations.redis_commands import REPORTED, REVOKED, RedisCommands
from service.revocations.redis_store import RedisStore
from service.revocations.revocation_list import MemoryStore
from tests.revocations.conftest import SECONDS, Clock
from tests.support.redis_server import RedisServer

MOST = 6
SESSIONS = [f"sess_{letter}" for letter in "abcdefgh"]
some_sessions = st.lists(st.sampled_from(SESSIONS), min_size=1, max_size=4)
one_session = st.sampled_from(SESSIONS)
seconds = st.integers(1, 12).map(lambda hundreds: 100 * hundreds)
"""In hundreds: in Redis real time passes too, and must not decide."""
times = st.integers(0, 5).map(lambda number: 1_790_000_000.25 + number)

LATE = 2.0
"""Seconds that a busy machine may take for a call."""

Result = TypeVar("Result")


class Model(RuleBasedStateMachine):
    """What is true of every store."""

    most: int | None = None
    """Sessions that the store under test has room for, if it is bounded."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = Clock()
        self.stores: list[MemoryStore] | list[RedisStore] = []
        self.signed_out: dict[str, tuple[float, float]] = {}
        self.claimed: dict[str, float] = {}

    def run(self, call: Coroutine[Any, Any, Result]) -> Result:
        return self.runner.run(call)

    def let_pass(self, how_long: int) -> None:
        self.clock.now += how_long

    @rule(session_ids=some_sessions, at=times, how_long=seconds, who=st.integers(0, 1))
    def sign_out(self, session_ids: list[str], at: float, how_long: int, who: int) -> None:
        self.run(self.stores[who % len(self.stores)].add(session_ids, at=at, seconds=how_long))
        for session_id in session_ids:
            before, end = self.signed_out.pop(session_id, (at, 0.0))
            if self.most is not None and len(self.signed_out) == self.most:
                self.drop_soonest()
            self.signed_out[session_id] = min(before, at), max(end, self.clock.now + how_long)

    def drop_soonest(self) -> None:
        del self.signed_out[min(self.signed_out, key=lambda session_id: (self.signed_out[session_id][1], session_id))]

    @rule(session_id=one_session, how_long=seconds, who=st.integers(0, 1))
    def claim(self, session_id: str, how_long: int, who: int) -> None:
        first = self.run(self.stores[who % len(self.stores)].claim(session_id, seconds=how_long))
        if self.most is None or len(self.claimed) < self.most:
            assert first == (session_id not in self.claimed)
        if first:
            self.claimed[session_id] = self.clock.now + how_long

    @rule(how_long=seconds)
    def time_passes(self, how_long: int) -> None:
        self.let_pass(how_long)
        self.signed_out = {name: entry for name, entry in self.signed_out.items() if entry[1] > self.clock.now}
        self.claimed = {name: end for name, end in self.claimed.items() if end > self.clock.now}

    def found(self, session_id: str, who: int = 0) -> float | None:
        return self.run(self.stores[who].find(session_id))

    @invariant()
    def exactly_the_signed_out_sessions_are_on_the_list(self) -> None:
        for session_id in SESSIONS:
            expected = self.signed_out.get(session_id, (None, 0.0))[0]
            for who in range(len(self.stores)):
                assert self.found(session_id, who) == expected, session_id

    def teardown(self) -> None:
        for store in self.stores:
            self.run(store.close())
        self.runner.close()


class MemoryModel(Model):
    """In memory, with little room."""

    most = MOST

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore(max_sessions=MOST, clock=self.clock, wall_clock=self.clock)
        self.stores = [self.store]

    @invariant()
    def memory_is_bounded(self) -> None:
        assert len(self.store.session_ids()) <= MOST


class RedisModel(Model):
    """Two processes that share a Redis."""

    def __init__(self, redis: RedisServer) -> None:
        super().__init__()
        self.redis = redis
        self.redis.do("FLUSHALL")
        stores = [
            RedisStore(
                RedisCommands(redis.url, reply_timeout=SECONDS),
                timeout=SECONDS,
                clock=self.clock,
                wall_clock=self.clock,
            )
            for _ in range(2)
        ]
        for store in stores:
            self.run(store.start())
        self.stores = [*stores]

    def let_pass(self, how_long: int) -> None:
        super().let_pass(how_long)
        self.redis.let_pass(how_long)

    @invariant()
    def nothing_outlives_its_time(self) -> None:
        for prefix, ends in (
            (REVOKED, {name: end for name, (_, end) in self.signed_out.items()}),
            (REPORTED, self.claimed),
        ):
            for session_id, end in ends.items():
                left = self.redis.left(prefix + session_id)
                assert end - self.clock.now - 60 < left <= end - self.clock.now + LATE
        marker_and_probe = 2
        assert self.redis.keys() <= len(self.signed_out) + len(self.claimed) + marker_and_probe


def run(model: Callable[[], RuleBasedStateMachine], examples: int) -> None:
    limits = settings(max_examples=examples, stateful_step_count=20, deadline=None)
    run_state_machine_as_test(model, settings=limits)  # type: ignore[arg-type]  # it calls what it is given


def test_the_list_in_memory_is_that_of_the_model() -> None:
    run(MemoryModel, 50)


@pytest.mark.usefixtures("redis")
def test_the_list_in_redis_is_that_of_the_model(redis: RedisServer) -> None:
    run(lambda: RedisModel(redis), 15)

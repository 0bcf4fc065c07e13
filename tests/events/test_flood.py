"""Flood control alone: a clock that is set, windows that end when the test lets the event loop turn."""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from ipaddress import ip_address
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.events.flood import AUTHS, PROCESS_FACTOR, SECOND, FloodControl, TokenBuckets
from service.events.request import Address
from service.events.types import UserLogoutSuppressed
from service.telemetry.metrics import Metrics

NEVER = 3600
"""Seconds of a window that does not end while a test runs."""
CLIENT = ip_address("203.0.113.77")
STRANGERS = [ip_address(f"198.51.100.{host}") for host in range(100)]


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self, now: int = 0) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


class Summaries:
    """Stands in for the recorder.

    Args:
        outcomes: what it says of each summary in turn, or raises; after that it takes all.
    """

    def __init__(self, outcomes: Iterable[bool | Exception] = ()) -> None:
        self.tried: list[UserLogoutSuppressed] = []
        self.recorded: list[UserLogoutSuppressed] = []
        self.begun = asyncio.Semaphore(0)
        self.ended = asyncio.Semaphore(0)
        self._outcomes = iter(outcomes)

    def take_all(self) -> None:
        """Record whatever comes from now on."""
        self._outcomes = iter(())

    async def record(self, event: UserLogoutSuppressed) -> bool:
        event = replace(event)  # as it is now
        self.tried.append(event)
        self.begun.release()
        await asyncio.sleep(0)  # calls go on while it is being written
        self.ended.release()
        outcome = next(self._outcomes, True)
        if isinstance(outcome, Exception):
            raise outcome
        if outcome:
            self.recorded.append(event)
        return outcome


def flood_control(summaries: Summaries, **changes: Any) -> FloodControl:
    """Lets a client have ten lines, and its time stands still, unless told otherwise."""
    usual: dict[str, Any] = {
        "per_second": 1,
        "per_session": 1000,
        "metrics": Metrics(),
        "clock": Clock(),
        "window": NEVER,
    }
    return FloodControl(record=summaries.record, **(usual | changes))


def call(flood: FloodControl, address: Address | None = CLIENT, auth: str = "absent") -> str | None:
    """One call: None when it gets a line of its own, else the ``event_id`` that it is told."""
    return None if flood.admits(None, lambda: address) else flood.suppress(auth)


def recorded(flood: FloodControl, address: Address | None, calls: int) -> int:
    """Of so many calls, those that get a line of their own."""
    return sum(call(flood, address) is None for _ in range(calls))


# --- Which calls are suppressed --------------------------------------------------------------------------------------


async def test_one_client_has_a_burst_of_ten_seconds_that_fills_again() -> None:
    clock = Clock()
    flood = flood_control(Summaries(), per_second=50, clock=clock)
    assert recorded(flood, CLIENT, 20_000) == 500
    clock.now += 2 * SECOND
    assert recorded(flood, CLIENT, 20_000) == 100
    await flood.close()


async def test_all_clients_together_have_four_times_as_much() -> None:
    """One that is over its own limit takes nothing from the others."""
    flood = flood_control(Summaries())
    recorded(flood, CLIENT, 20_000)
    assert sum(recorded(flood, stranger, 1) for stranger in STRANGERS) == (PROCESS_FACTOR - 1) * 10
    await flood.close()


async def test_a_process_without_room_uses_up_nothing_of_a_client() -> None:
    clock = Clock()
    flood = flood_control(Summaries(), clock=clock)
    for stranger in STRANGERS[:PROCESS_FACTOR]:
        recorded(flood, stranger, 10)
    assert recorded(flood, CLIENT, 1000) == 0
    clock.now += 10 * SECOND
    assert recorded(flood, CLIENT, 1000) == 10
    await flood.close()


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        pytest.param("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", 10, id="an IPv6 /64"),
        pytest.param(None, None, 10, id="no address"),
        pytest.param("203.0.113.77", "203.0.113.78", 20, id="two IPv4 addresses"),
        pytest.param("2001:db8:1:2::1", "2001:db8:1:3::1", 20, id="two IPv6 networks"),
        pytest.param("0.0.0.0", None, 20, id="zeros and no address"),
    ],
)
async def test_each_client_has_a_limit_of_its_own(one: str | None, other: str | None, together: int) -> None:
    flood = flood_control(Summaries())
    clients = [None if text is None else ip_address(text) for text in (one, other)]
    assert sum(recorded(flood, client, 20) for client in clients) == together
    await flood.close()


# --- Which calls of a session are suppressed -------------------------------------------------------------------------


def nobody_asks() -> Address | None:
    raise AssertionError("the address of a proven call is not looked at")


def lines_of(flood: FloodControl, session_id: str, calls: int) -> int:
    """Of so many calls of a session, those that get a line of their own."""
    return sum(flood.admits(session_id, nobody_asks) or not flood.suppress("expired") for _ in range(calls))


async def test_one_session_has_a_burst_and_then_a_line_a_second() -> None:
    """And takes nothing from those that prove nothing."""
    clock = Clock()
    flood = flood_control(Summaries(), per_session=50, clock=clock)
    assert lines_of(flood, "a", 1000) == 50
    assert recorded(flood, CLIENT, 1000) == 10
    clock.now += 3 * SECOND
    assert lines_of(flood, "a", 1000) == 3
    await flood.close()


async def test_the_suppressed_are_counted_by_their_verdict() -> None:
    metrics = Metrics()
    flood = flood_control(Summaries(), metrics=metrics)
    for auth in ["absent"] * 12 + ["rejected"] * 3:
        call(flood, CLIENT, auth)
    await flood.close()
    counted = metrics.registry.get_sample_value
    values = {auth: counted("clerk_logout_calls_suppressed_total", {"auth": auth}) for auth in AUTHS}
    assert values == {"verified": 0, "expired": 0, "absent": 2, "rejected": 3, "unverifiable": 0}


# --- The summaries ---------------------------------------------------------------------------------------------------


async def test_a_window_that_is_over_is_one_summary() -> None:
    summaries = Summaries()
    flood = flood_control(summaries, window=0)
    told = [call(flood) for _ in range(25)]
    await summaries.ended.acquire()
    (summary,) = summaries.recorded
    assert summary.count == 15
    assert told == [None] * 10 + [summary.event_id] * 15
    assert summary.window_start < summary.window_end <= summary.timestamp
    await flood.close()


@pytest.mark.parametrize("failure", [False, ValueError("eyJ.secret")], ids=["not recorded", "the recorder breaks"])
async def test_a_summary_not_recorded_is_tried_again_unchanged(
    failure: bool | Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """Those whom it counts were told its id."""
    summaries = Summaries([failure, failure])
    flood = flood_control(summaries, window=0.02)
    told = [call(flood) for _ in range(12)][-1]
    for _ in range(3):
        await summaries.ended.acquire()
    assert [(summary.event_id, summary.count) for summary in summaries.tried] == [(told, 2)] * 3
    assert len({(summary.window_start, summary.window_end) for summary in summaries.tried}) == 1
    times = [datetime.fromisoformat(summary.timestamp) for summary in summaries.tried]
    assert all(later - earlier > timedelta(milliseconds=10) for earlier, later in pairwise(times)), "not at once"
    assert ("a summary was not recorded: ValueError in test_flood.py:" in caplog.text) is bool(failure)
    assert "secret" not in caplog.text
    await flood.close()


async def test_while_none_is_recorded_calls_gather_in_one_more_window() -> None:
    summaries = Summaries([False] * 1000)
    flood = flood_control(summaries, window=0)
    recorded(flood, CLIENT, 10)
    for _ in range(100):
        call(flood)
        await summaries.begun.acquire()
    summaries.take_all()
    await flood.close()
    assert len(summaries.tried) > 100
    assert len(summaries.recorded) == 2
    assert sum(summary.count for summary in summaries.recorded) == 100


@pytest.mark.parametrize("written", ["never", "in vain", "just now"])
async def test_closing_writes_what_is_left_at_once(written: str) -> None:
    summaries = Summaries([written != "in vain"])
    flood = flood_control(summaries, window=NEVER if written == "never" else 0)
    recorded(flood, CLIENT, 15)
    if written != "never":
        await (summaries.ended if written == "in vain" else summaries.begun).acquire()
        recorded(flood, CLIENT, 3)
    await flood.close()
    assert [summary.count for summary in summaries.recorded] == ([5] if written == "never" else [5, 3])


async def test_calls_that_no_summary_counts_at_the_end_are_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    flood = flood_control(Summaries([False]))
    recorded(flood, CLIENT, 17)
    await flood.close()
    assert caplog.messages == ["7 suppressed calls could not be recorded"]


# --- Whatever happens ------------------------------------------------------------------------------------------------

_clients = st.sampled_from([None, *STRANGERS[:6], ip_address("2001:db8::1"), ip_address("2001:db8::2")])
_calls = st.tuples(_clients, st.integers(1, 15))
_steps = st.lists(
    st.tuples(st.lists(_calls, max_size=4), st.integers(0, 5 * SECOND), st.integers(0, 6)), min_size=1, max_size=30
)


@given(steps=_steps, outcomes=st.lists(st.booleans(), max_size=20))
async def test_lines_and_counts_of_summaries_add_up_to_the_calls(
    steps: list[tuple[list[tuple[Address | None, int]], int, int]], outcomes: list[bool]
) -> None:
    """And each suppressed call was told the summary that counts it."""
    summaries, clock = Summaries(outcomes), Clock()
    flood = flood_control(summaries, clock=clock, window=0)
    told: list[str | None] = []
    for calls, pause, turns in steps:
        for client, count in calls:
            told += [call(flood, client) for _ in range(count)]
        clock.now += pause
        for _ in range(turns):
            await asyncio.sleep(0)
    summaries.take_all()
    await flood.close()
    assert {summary.event_id: summary.count for summary in summaries.recorded} == {
        event_id: told.count(event_id) for event_id in told if event_id is not None
    }
    assert len({summary.event_id for summary in summaries.recorded}) == len(summaries.recorded)
    assert told.count(None) + sum(summary.count for summary in summaries.recorded) == len(told)


# --- Token buckets alone ---------------------------------------------------------------------------------------------


def taken(buckets: TokenBuckets, key: str, tries: int = 1000) -> int:
    return sum(buckets.take(key) for _ in range(tries))


def test_full_buckets_are_forgotten_and_no_others() -> None:
    """10,000 strangers within 5 s, of whom each comes once: a bucket of theirs is full again after 1 s."""
    clock = Clock()
    buckets = TokenBuckets(per_second=1, burst=10, clock=clock)
    taken(buckets, "flooder")
    most = 0
    for stranger in range(10_000):
        assert buckets.take(str(stranger))
        most = max(most, len(buckets))
        clock.now += SECOND // 2000
    assert most <= 2 * 2001
    assert taken(buckets, "flooder") == 5


@given(
    per_second=st.integers(1, 1_000_000),
    burst=st.integers(1, 100),
    start=st.integers(0, 10**18),
    pauses=st.lists(st.integers(0, 3 * SECOND) | st.integers(0, 3000), min_size=1, max_size=300),
)
@example(per_second=3, burst=1, start=0, pauses=[0, SECOND // 3])  # a rate that divides no second is rounded down
def test_within_any_time_burst_and_rate_are_kept(per_second: int, burst: int, start: int, pauses: list[int]) -> None:
    """Exactly, in whole numbers: between any two tokens, both counted."""
    clock = Clock(start)
    buckets = TokenBuckets(per_second=per_second, burst=burst, clock=clock)
    times = []
    for pause in pauses:
        clock.now += pause
        if buckets.take("a"):
            times.append(clock.now)
    for first, began in enumerate(times):
        for last, ended in enumerate(times[first:], first):
            assert (last - first + 1 - burst) * SECOND <= per_second * (ended - began)

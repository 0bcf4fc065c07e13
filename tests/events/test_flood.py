"""The bound, the count, and what happens to a count that cannot be written."""

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.events import flood
from service.events.flood import BURST_SECONDS, PROCESS_FACTOR, FloodControl
from service.events.types import UserLogoutSuppressed
from service.metrics import Metrics

SOMEBODY = ipaddress.ip_address("203.0.113.7")
ANOTHER = ipaddress.ip_address("203.0.113.8")


class Written:
    """Keeps the summaries; ``answers`` says in turn what becomes of them, after that each is recorded."""

    def __init__(self, *answers: bool | Exception) -> None:
        self.summaries: list[UserLogoutSuppressed] = []
        self.refused: list[UserLogoutSuppressed] = []
        self._answers = iter(answers)

    async def record(self, summary: UserLogoutSuppressed) -> bool:
        answer = next(self._answers, True)
        (self.summaries if answer is True else self.refused).append(summary)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def counts(self) -> list[int]:
        return [summary.count for summary in self.summaries]


class Clock:
    """Stands in for the module ``time`` where ``limits`` reads the time; it takes no clock."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def time(self) -> float:
        return self.now


Open = Callable[..., FloodControl]


@pytest.fixture
async def open_control() -> AsyncIterator[Open]:
    """Opens a flood control with a rate of 5 per second unless told otherwise."""
    controls: list[FloodControl] = []

    def open_(written: Written | None = None, *, per_second: int = 5, metrics: Metrics | None = None) -> FloodControl:
        controls.append(FloodControl(per_second, (written or Written()).record, metrics or Metrics()))
        return controls[-1]

    yield open_
    for control in controls:
        await control.close()


def admitted(control: FloodControl, calls: int, address: Any = SOMEBODY) -> int:
    return sum(control.admits(address) for _ in range(calls))


# --- Who is admitted -------------------------------------------------------------------------------------------------


async def test_a_burst_of_ten_seconds_worth_is_admitted_and_no_more(
    open_control: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("limits.storage.memory.time", Clock())
    assert admitted(open_control(), 1000) == 5 * BURST_SECONDS


@given(steps=st.lists(st.tuples(st.floats(0, 15), st.integers(0, 200)), max_size=30))
def test_within_any_time_no_more_than_burst_and_rate_are_admitted(steps: list[tuple[float, int]]) -> None:
    """The token bucket's bound; ``limits`` rounds down, hence the one."""

    async def run() -> None:
        control = FloodControl(5, Written().record, Metrics())
        clock, seen = Clock(), [(0.0, 0)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("limits.storage.memory.time", clock)
            for pause, calls in steps:
                clock.now += pause
                seen.append((clock.now, seen[-1][1] + admitted(control, calls)))
        for start in range(1, len(seen)):
            for later in seen[start:]:
                assert later[1] - seen[start - 1][1] <= 50 + 5 * (later[0] - seen[start][0]) + 1
        await control.close()

    asyncio.run(run())


async def test_one_clients_flood_is_not_anothers(open_control: Open) -> None:
    control = open_control()
    admitted(control, 10_000)
    assert admitted(control, 40, ANOTHER) == 40


async def test_many_clients_share_what_the_process_records(open_control: Open) -> None:
    control = open_control()
    total = sum(admitted(control, 20, ipaddress.ip_address(f"198.51.100.{number}")) for number in range(100))
    assert total <= 5 * BURST_SECONDS * PROCESS_FACTOR + 1
    assert total >= 5 * BURST_SECONDS * PROCESS_FACTOR


async def test_no_number_is_kept_for_strangers_while_the_process_has_no_room(open_control: Open) -> None:
    control = open_control(per_second=1)
    for number in range(10_000):
        control.admits(ipaddress.IPv4Address(number))
    storage: Any = control._limiter.storage
    assert len(storage.storage) <= 2 * (BURST_SECONDS * PROCESS_FACTOR + 1)


@pytest.mark.parametrize(
    ("first", "second", "are_one"),
    [
        pytest.param("203.0.113.7", "203.0.113.8", False, id="two IPv4 addresses"),
        pytest.param("2001:db8:1:2::1", "2001:db8:1:2:ffff::1", True, id="one IPv6 /64"),
        pytest.param("2001:db8:1:2::1", "2001:db8:1:3::1", False, id="two IPv6 /64"),
        pytest.param(None, None, True, id="nobody knows"),
        pytest.param(None, "203.0.113.7", False, id="only one is known"),
    ],
)
async def test_what_counts_as_one_client(
    open_control: Open, first: str | None, second: str | None, are_one: bool
) -> None:
    control = open_control()
    addresses = [None if text is None else ipaddress.ip_address(text) for text in (first, second)]
    assert admitted(control, 50, addresses[0]) == 50
    assert admitted(control, 50, addresses[1]) == (0 if are_one else 50)


# --- What is counted -------------------------------------------------------------------------------------------------


async def test_what_was_suppressed_is_one_summary(open_control: Open) -> None:
    written = Written()
    control = open_control(written)
    ids = {control.suppress("absent") for _ in range(7)}
    await control.close()
    (summary,) = written.summaries
    assert summary.count == 7
    assert ids == {summary.event_id}
    assert summary.window_start <= summary.window_end == summary.timestamp


async def test_a_window_ends_by_itself(open_control: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flood, "WINDOW", 0.0)
    recorded = asyncio.Event()

    class Telling(Written):
        async def record(self, summary: UserLogoutSuppressed) -> bool:
            recorded.set()
            return await super().record(summary)

    written = Telling()
    control = open_control(written)
    control.suppress("absent")
    await asyncio.wait_for(recorded.wait(), timeout=10)
    recorded.clear()
    control.suppress("rejected")
    await asyncio.wait_for(recorded.wait(), timeout=10)
    assert written.counts == [1, 1]
    first, second = written.summaries
    assert first.event_id != second.event_id
    assert first.window_end <= second.window_start


async def test_nothing_suppressed_is_no_summary(open_control: Open) -> None:
    written = Written()
    await open_control(written).close()
    assert written.summaries == []


async def test_the_verdicts_of_the_suppressed_are_counted(open_control: Open) -> None:
    metrics = Metrics()
    control = open_control(metrics=metrics)
    for auth in ("absent", "absent", "rejected"):
        control.suppress(auth)
    for auth, count in (("absent", 2), ("rejected", 1)):
        assert metrics.registry.get_sample_value("clerk_logout_calls_suppressed_total", {"auth": auth}) == count


@pytest.mark.parametrize("refusal", [False, RuntimeError("a mistake of ours")], ids=["not recorded", "an error"])
async def test_a_summary_that_was_not_recorded_goes_into_the_next(
    open_control: Open, refusal: bool | Exception
) -> None:
    written = Written(refusal)
    control = open_control(written)
    control.suppress("absent")
    await control.close()
    assert written.counts == [1]
    assert written.summaries[0].window_start == written.refused[0].window_start


async def test_a_summary_that_was_not_recorded_joins_a_window_that_is_open_already(open_control: Open) -> None:
    decided: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    class Slow(Written):
        async def record(self, summary: UserLogoutSuppressed) -> bool:
            if not decided.done():
                self.refused.append(summary)
                return await decided
            return await super().record(summary)

    written = Slow()
    control = open_control(written)
    control.suppress("absent")
    control._end_window()
    await asyncio.sleep(0)
    control.suppress("absent")
    control.suppress("absent")
    decided.set_result(False)
    for _ in range(3):
        await asyncio.sleep(0)
    await control.close()
    assert written.counts == [3]
    assert written.summaries[0].window_start == written.refused[0].window_start


async def test_a_summary_that_cannot_be_recorded_at_the_end_is_told(
    open_control: Open, caplog: pytest.LogCaptureFixture
) -> None:
    control = open_control(Written(*[False] * 3))
    control.suppress("absent")
    await control.close()
    assert "1 suppressed calls could not be recorded" in caplog.text

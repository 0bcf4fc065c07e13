"""Floods of calls that prove nothing: each is answered and counted, and who proves something is not in their way."""

import time
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import Figure
from tests.faults.load import burst, running, steady
from tests.faults.requests import expired, logouts, valid
from tests.support.lines import read_lines
from tests.support.processes import serve

CALLS = 20_000
PER_SECOND = 50
BURST = 500


def events_in(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The logouts, and the summaries of what was suppressed."""
    with path.open("rb") as file:
        # Delivery is at least once.
        events = {event["event_id"]: event for event in read_lines(file)}.values()
    return (
        [event for event in events if event["event"] == "user_logout"],
        [event for event in events if event["event"] == "user_logout_suppressed"],
    )


@pytest.mark.fault
@pytest.mark.parametrize(
    ("who", "at_once", "per_second"), [("one address", BURST, PER_SECOND), ("one expired token", 20, 1)]
)
def test_a_flood_is_counted_to_the_last_call(
    tmp_path: Path, figure: Figure, who: str, at_once: int, per_second: int
) -> None:
    event_log = tmp_path / "events.jsonl"
    settings = {"EVENT_LOG": str(event_log), "FLOOD_PER_SECOND": str(PER_SECOND), "FLOOD_PER_SESSION": "20"}
    with serve(settings=settings) as server:
        requests = logouts(expired(1) if who == "one expired token" else [None])
        started = time.monotonic()
        flood = burst(server.url, requests, count=CALLS, connections=16)
        took = time.monotonic() - started
        assert server.stop() == 0
    lines, summaries = events_in(event_log)
    suppressed = sum(summary["count"] for summary in summaries)
    assert flood.failures == {}
    assert flood.statuses == {200: CALLS}
    figure(f"flood of {who}: lines", len(lines), bound=at_once + per_second * took + 1)
    figure(f"flood of {who}: lines and suppressed calls", len(lines) + suppressed)
    assert len(lines) + suppressed == CALLS
    assert set(flood.recorded) <= {line["event_id"] for line in lines}
    # Each answer leads to the line that tells of it.
    told = {event["event_id"] for event in lines + summaries}
    assert {answer.event_id for answer in flood.answers} <= told


@pytest.mark.fault
def test_a_flood_crowds_out_nobody_who_proves_something(tmp_path: Path, figure: Figure) -> None:
    event_log = tmp_path / "events.jsonl"
    with serve(settings={"EVENT_LOG": str(event_log), "FLOOD_PER_SECOND": str(PER_SECOND)}) as server:
        with running(server.url, logouts(), rate=500, connections=8) as flood:
            users = steady(server.url, logouts(valid(500)), rate=100, seconds=15)
            anonymous = flood.stop()
        assert server.stop() == 0
    lines, summaries = events_in(event_log)
    verified = [line for line in lines if line["auth"] == "verified"]
    assert users.statuses == {200: 1500}
    assert set(users.recorded) <= {line["event_id"] for line in verified}
    figure("beside a flood of 500/s: calls with a token recorded, of 1,500", len(verified))
    assert len(verified) == 1500
    assert anonymous.statuses == {200: len(anonymous.answers)}
    suppressed = sum(summary["count"] for summary in summaries)
    assert len(lines) - len(verified) + suppressed == len(anonymous.answers)

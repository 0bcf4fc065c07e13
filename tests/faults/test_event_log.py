"""An event log that stalls or is full: every call is answered, and every event that was promised arrives."""

import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.faults.conftest import Figure
from tests.faults.load import burst, running, steady
from tests.faults.outcome import Outcome
from tests.faults.reader import serve_to_pipe
from tests.faults.requests import calls, logouts, valid
from tests.support.disks import grow, small_disk
from tests.support.lines import read_lines
from tests.support.processes import serve, wait_until

RETURN = 10.0
"""Seconds within which all must have been delivered after the event log has come back."""


def seconds_until(holds: Callable[[], bool], what: str) -> float:
    """Wait for something that a process does; give how many seconds it took."""
    started = time.monotonic()
    wait_until(holds, what, seconds=RETURN)
    return time.monotonic() - started


def assert_all_answered(outcome: Outcome, count: int) -> None:
    assert outcome.failures == {}
    assert outcome.statuses == {200: count}


def ids_in(path: Path, *, torn: int) -> list[str]:
    """The event ids without repetitions, which delivery at least once allows, in their order.

    Of so many lines at most only the beginning may be there, on a line of its own."""
    lines = path.read_bytes().splitlines(keepends=True)
    whole = [line for line in lines if line.endswith(b"}\n")]
    assert len(lines) - len(whole) <= torn
    return list(dict.fromkeys(event["event_id"] for event in read_lines(whole)))


def metric(url: str, name: str) -> float:
    text = httpx.get(f"{url}/metrics").text
    families = text_string_to_metric_families(text)
    return sum(sample.value for family in families for sample in family.samples if sample.name == name)


@pytest.mark.fault
def test_a_reader_that_stops_delays_nobody_and_misses_nothing(figure: Figure) -> None:
    request = logouts(valid(500))
    with serve_to_pipe() as (server, reader):
        before = steady(server.url, request, rate=500, seconds=3)
        reader.pause()
        with running(server.url, calls("GET /healthz"), rate=20, connections=4) as health:
            stopped = steady(server.url, request, rate=500, seconds=30)
            alive = health.stop()
        reader.resume()
        took = seconds_until(lambda: reader.line_count >= 16_500, "delivery")
        after = steady(server.url, request, rate=500, seconds=3)
        assert server.stop() == 0
        ids = [event["event_id"] for event in reader.events()]
    for outcome, count in ((before, 1500), (stopped, 15_000), (after, 1500)):
        assert_all_answered(outcome, count)
    assert_all_answered(alive, len(alive.answers))
    told = {answer.event_id or "" for outcome in (before, stopped, after) for answer in outcome.answers}
    recorded = sum(len(outcome.recorded) for outcome in (before, stopped, after))
    assert recorded > 16_500, "hardly any while nobody read"
    figure("reader stopped for 30 s: answers that said not recorded in time", 18_000 - recorded)
    figure("reader stopped for 30 s: p99", stopped.p99, "ms", bound=150)
    figure("reader stopped for 30 s: p99 of /healthz", alive.p99, "ms", bound=50)
    figure("all delivered after the reader's return", took, "s", bound=RETURN)
    # All of them, also those that a busy machine wrote too late for their answers.
    # A UUIDv7 is in the order of time, and with a PEM nothing comes between a request's id and its line.
    assert list(dict.fromkeys(ids)) == sorted(told)


def test_events_of_a_full_disk_wait_in_the_spool_for_room(tmp_path: Path, figure: Figure) -> None:
    (tmp_path / "disk").mkdir()
    with small_disk(tmp_path / "disk") as disk:
        event_log, spool = disk / "events.jsonl", tmp_path / "spool"
        with serve(settings={"EVENT_LOG": str(event_log), "EVENT_SPOOL_DIR": str(spool)}) as server:
            full = burst(server.url, logouts(valid(50)), count=2000, connections=8)
            assert_all_answered(full, 2000)
            size = event_log.stat().st_size
            assert 0 < len(ids_in(event_log, torn=1)) < 2000, "the disk was full"
            assert sum(file.stat().st_size for file in spool.rglob("*.jsonl")) > 0
            assert httpx.get(f"{server.url}/readyz").status_code == 200
            grow(disk)
            took = seconds_until(lambda: metric(server.url, "clerk_logout_spool_bytes") == 0, "delivery")
            after = burst(server.url, logouts(valid(5)), count=100, connections=1)
            assert server.stop() == 0
        assert event_log.stat().st_size > size, "a file that somebody follows never shrinks"
        ids = ids_in(event_log, torn=1)
        assert list(spool.iterdir()) == []
    # All of them, also one that a busy machine wrote too late for its answer.
    for outcome, of in ((full, ids[:2000]), (after, ids[2000:])):
        assert of == sorted(answer.event_id or "" for answer in outcome.answers)
    figure("delivered after there was room again", took, "s", bound=RETURN)


def test_what_neither_log_nor_spool_takes_is_counted_exactly(tmp_path: Path, figure: Figure) -> None:
    (tmp_path / "disk").mkdir()
    with small_disk(tmp_path / "disk") as disk:
        event_log, spool = disk / "events.jsonl", disk / "spool"
        with serve(settings={"EVENT_LOG": str(event_log), "EVENT_SPOOL_DIR": str(spool)}) as server:
            full = burst(server.url, logouts(valid(50)), count=2000, connections=8)
            assert_all_answered(full, 2000)
            wait_until(lambda: httpx.get(f"{server.url}/readyz").status_code == 503, "readiness")
            assert httpx.get(f"{server.url}/healthz").status_code == 200
            grow(disk)
            took = seconds_until(lambda: httpx.get(f"{server.url}/readyz").status_code == 200, "readiness again")
            lost = metric(server.url, "clerk_logout_events_lost_total")  # now each line is decided
            assert server.stop() == 0
        ids = ids_in(event_log, torn=2000)
    # A line that came too late for its answer may be written all the same.
    assert set(full.recorded) <= set(ids)
    assert 0 < len(full.recorded) <= len(ids) < 2000
    assert lost == 2000 - len(ids)
    figure("log and spool full: difference of counter and missing lines", lost - (2000 - len(ids)), bound=0)
    figure("ready again after there was room", took, "s", bound=RETURN)
    assert sum("events are being lost" in line["message"] for line in server.diagnostics) == 1

"""A million logouts: nothing grows but the event log."""

import random
import time
from collections import Counter
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from tests.faults.conftest import Figure
from tests.faults.load import burst
from tests.faults.requests import expired, forged, logouts, valid
from tests.support.lines import read_line
from tests.support.processes import serve, wait_until

REQUESTS = 1_000_000
CHUNK = 50_000
"""Requests between two looks at the memory."""
CONNECTIONS = 16
MAX_GROWTH = 5.0
"""Percent."""
SAMPLED = 1000
"""One line in so many is held against its schema; all are counted."""


@pytest.mark.fault
def test_a_million_requests_leave_memory_as_it_was(tmp_path: Path, figure: Figure) -> None:
    """Our own generator sends them, because it knows what became of each: wrk leaves some unanswered when it stops."""
    # Not *.jsonl: tests/conftest.py would read all of its 600 MB.
    event_log = tmp_path / "events.log"
    mixed = [token for four in zip(valid(500), [None] * 500, forged(500), expired(500), strict=True) for token in four]
    request = logouts(mixed)
    started = time.monotonic()
    memory: list[int] = []
    files: list[int] = []
    recorded = 0
    with serve(settings={"EVENT_LOG": str(event_log)}) as server:
        process = psutil.Process(server.process.pid)
        for _ in range(REQUESTS // CHUNK):
            outcome = burst(server.url, request, count=CHUNK, connections=CONNECTIONS)
            assert outcome.statuses == {200: CHUNK}
            recorded += len(set(outcome.recorded))
            memory.append(process.memory_info().rss)
            files.append(open_files_at_rest(process))
        assert server.stop() == 0
    seconds = time.monotonic() - started
    try:
        lines, verdicts = count(event_log)
    finally:
        event_log.unlink()

    # Where the disk is slow for a moment, an answer may say so, and a line may come twice; none may be missing.
    assert len(lines) == REQUESTS
    figure("answers that said not recorded in time", REQUESTS - recorded)
    assert set(verdicts) == {"verified", "absent", "rejected", "expired"}
    figure("requests", REQUESTS)
    figure("requests per second", REQUESTS / seconds)
    figure(f"memory after {CHUNK:,} requests", memory[0] / 2**20, "MiB")
    figure("memory at the end", memory[-1] / 2**20, "MiB")
    figure("growth of memory", 100 * (memory[-1] / memory[0] - 1), "%", bound=MAX_GROWTH)
    figure("growth of open files", max(files) - files[0], bound=0)


def open_files_at_rest(process: psutil.Process) -> int:
    """How many files are open once the server has seen that its connections are closed."""
    wait_until(lambda: len(process.net_connections("tcp")) <= 1, "all connections are closed")
    return int(process.num_fds())


def count(event_log: Path) -> tuple[set[bytes], Counter[str]]:
    """Give the event ids, and count the verdicts of a sample that is held against the schema."""
    lines, verdicts = set[bytes](), Counter[str]()
    with event_log.open("rb") as file:
        for line in file:
            assert line.endswith(b"}\n")
            lines.add(line.partition(b'"event_id":"')[2][:36])
            if random.randrange(SAMPLED) == 0:
                verdicts[read_line(line)["auth"]] += 1
    return lines, verdicts

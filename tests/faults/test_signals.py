"""Told to stop, or killed, in the middle of the work: what was acknowledged is there."""

import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import Figure
from tests.faults.load import burst, running
from tests.faults.outcome import Failure
from tests.faults.reader import serve_to_pipe
from tests.faults.requests import logouts, valid
from tests.support.lines import read_line, read_lines
from tests.support.processes import Server, serve

RATE = 500
"""Requests per second while the signal comes."""
TERMINATIONS = 6
"""Of each kind; there are four."""
KILLS = 25
"""Of each kind; there are two."""
EXIT_WITHIN = 10.0
"""Seconds."""

pytestmark = pytest.mark.fault


class Log:
    """An event log that is a file or a pipe, and the spool beside it."""

    def __init__(self, directory: Path, kind: str) -> None:
        self.kind = kind
        directory.mkdir(exist_ok=True)
        # Not *.jsonl: after a SIGKILL its last line may be torn, and tests/conftest.py would read it.
        self.file = directory / "events.log"
        self.spool = directory / "spool"
        self._piped: list[dict[str, Any]] = []

    @contextmanager
    def serve(self) -> Iterator[Server]:
        """Start a service that writes here; what it wrote to a pipe is read when it has ended."""
        own = {"EVENT_SPOOL_DIR": str(self.spool)}
        if self.kind == "file":
            with serve(settings=own | {"EVENT_LOG": str(self.file)}) as server:
                yield server
            return
        with serve_to_pipe(own) as (server, reader):
            yield server
            self._piped += reader.events()

    def event_ids(self) -> set[str]:
        """The ids of all whole lines in the log and in the spool."""
        lines = self.file.read_bytes().splitlines(keepends=True) if self.file.exists() else []
        for path in self.spool.rglob("*.jsonl"):
            lines += path.read_bytes().splitlines(keepends=True)
        whole = [read_line(line) for line in lines if line.endswith(b"\n") and line[:1] == b"{"]
        return {event["event_id"] for event in [*whole, *self._piped]}


@pytest.mark.parametrize("kind", ["file", "pipe"])
@pytest.mark.parametrize("close", [True, False], ids=["a connection each", "connections kept"])
def test_sigterm_under_load_cuts_nobody_off(tmp_path: Path, kind: str, close: bool, figure: Figure) -> None:
    """24 times in all. What counts as cut off, of requests that were sent in full:

    - sent before the signal: every one without an answer, on whichever connection;
    - sent after it on a connection of their own: those that were reset instead of refused or answered. At most one in
      three terminations, because a connection that the kernel makes between the server's last accept(2) and its
      close(2) of the listener is nobody's fault; it takes microseconds;
    - sent after it on a connection that had been used: none, because a server may close one that it takes for idle, and
      a client must be ready for it (RFC 9112, section 9.5). They are shown.
    """
    before, after, slowest = 0, Counter[Failure](), 0.0
    for number in range(TERMINATIONS):
        log = Log(tmp_path / str(number), kind)
        with log.serve() as server, running(server.url, logouts([*valid(20), None], close=close), rate=RATE) as load:
            time.sleep(random.uniform(0.3, 0.6))
            signalled = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(2 * EXIT_WITHIN) == 0
            slowest = max(slowest, time.monotonic() - signalled)
            outcome = load.stop()
        assert not set(outcome.recorded) - log.event_ids()
        assert len(outcome.recorded) > RATE / 10, "there was no load"
        assert set(outcome.statuses) == {200}
        assert not outcome.failures[Failure.TIMEOUT]
        sent = [(request.sent, request.failure) for request in outcome.unanswered if request.sent is not None]
        before += sum(at < signalled for at, _ in sent)
        after.update(failure for at, failure in sent if at >= signalled)
    figure("seconds to the exit", slowest, "s", bound=EXIT_WITHIN)
    figure("used connections closed on a request", after[Failure.STALE])
    figure("sent before the signal, never answered", before, bound=0)
    figure("sent after the signal, reset", after[Failure.RESET], bound=TERMINATIONS // 3)


@pytest.mark.parametrize("kind", ["file", "pipe"])
def test_what_was_acknowledged_survives_sigkill(tmp_path: Path, kind: str, figure: Figure) -> None:
    """25 kills each of a service that is started again and again on the same log and the same spool."""
    log = Log(tmp_path, kind)
    acknowledged: set[str] = set()
    for _ in range(KILLS):
        with log.serve() as server, running(server.url, logouts([*valid(20), None]), rate=RATE) as load:
            time.sleep(random.uniform(0.05, 0.8))
            server.process.kill()
            server.process.wait()
            outcome = load.stop()
        assert set(outcome.statuses) <= {200}
        acknowledged |= set(outcome.recorded)
        missing = acknowledged - log.event_ids()
        assert not missing, f"{len(missing)} of {len(acknowledged)}"
    figure(f"events acknowledged before {KILLS} kills", len(acknowledged))
    assert len(acknowledged) > KILLS * RATE / 10, "there was no load"


def test_the_next_process_delivers_what_waited_in_the_spool(tmp_path: Path, figure: Figure) -> None:
    """Nobody reads the pipe, so lines go to the spool; ten processes die with theirs, the eleventh delivers all."""
    settings = {"EVENT_SPOOL_DIR": str(tmp_path / "spool")}
    acknowledged: set[str] = set()
    seen: set[str] = set()
    for _ in range(10):
        with serve_to_pipe(settings) as (server, reader):
            reader.pause()
            with running(server.url, logouts([*valid(20), None]), rate=RATE) as load:
                time.sleep(random.uniform(0.4, 1.0))
                server.process.kill()
                server.process.wait()
                acknowledged |= set(load.stop().recorded)
            seen |= {event["event_id"] for event in reader.events()}
    waiting = acknowledged - seen
    assert len(waiting) > RATE, "hardly anything waited in the spool"
    with serve_to_pipe(settings) as (server, reader):
        assert server.stop() == 0
        seen |= {event["event_id"] for event in reader.events()}
    figure("events that waited for the next process", len(waiting))
    figure("of them missing", len(waiting - seen), bound=0)


def test_a_torn_line_spoils_no_other(tmp_path: Path, figure: Figure) -> None:
    """A kill in the middle of write(2) is rare; so after each kill the beginning of a line is put where it would be."""
    log = Log(tmp_path, "file")
    acknowledged: set[str] = set()
    told: set[str | None] = set()  # those, too, that a busy machine wrote too late for their answers
    torn: set[bytes] = set()
    for _ in range(5):
        with log.serve() as server:
            outcome = burst(server.url, logouts(), count=10, connections=1)
            acknowledged |= set(outcome.recorded)
            told |= {answer.event_id for answer in outcome.answers}
            server.process.kill()
        lines = log.file.read_bytes().splitlines(keepends=True)
        events = read_lines(line for line in lines if line.removesuffix(b"\n") not in torn)
        assert acknowledged <= {event["event_id"] for event in events} <= told
        beginning = lines[-1][: random.randrange(1, len(lines[-1]) - 1)]
        with log.file.open("ab") as file:
            file.write(beginning)
        torn.add(beginning)
    figure("torn lines that spoiled no other", len(torn) - 1)

"""What several workers count together: files, slots, and the whole service with ``WORKERS=2``."""

import fcntl
import http.client
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from service.server import _app_of_worker
from service.settings import ConfigurationError, Settings
from service.worker_metrics import FILES, PARENT, SHARED_MEMORY, WorkersCollector, metrics_directory
from tests.support.processes import TIMEOUT, Server, serve

# Counts what it is told to, says so, and waits for the next word or its end.
WORKER = """
import sys
from pathlib import Path
from prometheus_client import generate_latest
from service.worker_metrics import count_in

metrics = count_in(Path(sys.argv[1]))
keys_fetched_at = metrics.keys_fetched_at
for line in sys.stdin:
    exec(line)
    print(flush=True)
"""


class Worker:
    """A process that counts in a directory."""

    def __init__(self, directory: Path) -> None:
        command = [sys.executable, "-c", WORKER, str(directory)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.do("pass")  # it counts from here on

    def do(self, statement: str) -> None:
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{statement}\n")
        stdin.flush()
        assert stdout.readline() == "\n"

    def end(self) -> None:
        self.process.communicate(timeout=TIMEOUT)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=TIMEOUT)


@contextmanager
def worker(directory: Path) -> Iterator[Worker]:
    started = Worker(directory)
    try:
        yield started
    finally:
        with suppress(ValueError):  # the test has ended it
            started.end()


@pytest.fixture
def directory() -> Iterator[Path]:
    with metrics_directory(2) as directory:
        yield directory


def value(directory: Path, name: str) -> float:
    """A number without labels, over all workers."""
    text = generate_latest(WorkersCollector(directory)).decode()
    (found,) = re.findall(rf"^clerk_logout_{name} (\S+)$", text, re.MULTILINE)
    return float(found)


def test_counters_and_gauges_of_workers_are_added_up(directory: Path) -> None:
    with worker(directory) as one, worker(directory) as other:
        one.do("metrics.lost.inc(2); metrics.spool_bytes.set(100)")
        other.do("metrics.lost.inc(3); metrics.spool_bytes.set(10)")
        assert (value(directory, "events_lost_total"), value(directory, "spool_bytes")) == (5, 110)


def test_the_worst_worker_decides_whether_all_are_ready_and_have_keys(directory: Path) -> None:
    with worker(directory) as one, worker(directory) as other:
        one.do("metrics.ready.set(1); keys_fetched_at.set(1000)")
        assert (value(directory, "ready"), value(directory, "keys_fetched_timestamp_seconds")) == (0, 0)
        other.do("metrics.ready.set(1); keys_fetched_at.set(900)")
        assert (value(directory, "ready"), value(directory, "keys_fetched_timestamp_seconds")) == (1, 900)


def test_a_killed_worker_leaves_its_counters_and_takes_its_gauges(directory: Path) -> None:
    with worker(directory) as one, worker(directory) as other:
        one.do("metrics.lost.inc(2); metrics.spool_bytes.set(100)")
        other.do("metrics.spool_bytes.set(10)")
        one.kill()
        assert (value(directory, "events_lost_total"), value(directory, "spool_bytes")) == (2, 10)


def test_its_successor_counts_on_with_gauges_of_its_own(directory: Path) -> None:
    for _ in range(5):
        with worker(directory) as one:
            one.do("metrics.lost.inc()")
            assert value(directory, "spool_bytes") == 0
            one.do("metrics.spool_bytes.set(100)")
            one.kill()
    assert value(directory, "events_lost_total") == 5


def test_workers_that_die_again_and_again_leave_no_more_files(directory: Path) -> None:
    before = sorted(directory.glob("*.db"))
    for _ in range(3):
        with worker(directory) as one:
            one.do("metrics.lost.inc()")
            one.kill()
    assert sorted(directory.glob("*.db")) == before


def test_more_workers_than_were_planned_count_too(directory: Path) -> None:
    with worker(directory) as one, worker(directory) as two, worker(directory) as three, worker(directory) as four:
        for number in (one, two, three, four):
            number.do("metrics.lost.inc()")
        assert value(directory, "events_lost_total") == 4


def test_a_file_that_is_just_being_made_is_passed_over(directory: Path) -> None:
    (directory / "counter_99.db").touch()
    with worker(directory) as one:
        one.do("metrics.lost.inc()")
        assert value(directory, "events_lost_total") == 1


def test_every_label_that_can_occur_finds_room_that_was_taken_at_the_start(directory: Path) -> None:
    """Growing a file on a full memory disk would end in SIGBUS."""
    with worker(directory) as one:
        one.do(
            "[metrics.request_duration.labels(m, p, s).observe(1) for m in ('DELETE', 'OPTIONS') for p in "
            "('/v1/auth/session', '/v1/events/schema', '/healthz', '/readyz', '/metrics', 'other') "
            "for s in (200, 400, 404, 405, 500)]"
        )
        one.do(
            "[metrics.events.labels('user_logout', a, r).inc() for a in ('unverifiable', 'rejected', 'absent') "
            "for r in ['token-invalid-authorized-parties' + str(n) for n in range(13)]]"
        )
    for path in directory.glob("*_0.db"):
        assert path.stat().st_size == FILES[path.stem.removesuffix("_0")]
        assert path.stat().st_blocks * 512 >= path.stat().st_size


def test_the_directory_is_made_where_there_is_room_and_removed(tmp_path: Path) -> None:
    with metrics_directory(2, [Path("/proc"), tmp_path / "missing", tmp_path]) as directory:
        assert directory.parent == tmp_path
        assert directory.stat().st_mode & 0o777 == 0o700
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("held_by", ["nobody", "a worker", "the parent", "one that is starting"])
def test_what_killed_services_left_is_removed_by_the_next_one(tmp_path: Path, held_by: str) -> None:
    left = tmp_path / "clerk-logout-metrics-left"
    left.mkdir()
    (left / "counter_0.db").touch()
    with ExitStack() as stack:
        if held_by == "a worker":
            stack.enter_context(worker(left))
        if held_by == "the parent":
            lock = stack.enter_context((left / f"{PARENT}.lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        if held_by != "one that is starting":
            os.utime(left, (1000, 1000))
        with metrics_directory(2, [tmp_path]):
            assert left.exists() is (held_by != "nobody")


def test_a_parent_holds_its_directory(tmp_path: Path) -> None:
    with metrics_directory(1, [tmp_path]) as directory:
        os.utime(directory, (1000, 1000))
        with metrics_directory(1, [tmp_path]):
            assert directory.exists()


def test_where_there_is_no_room_it_says_so() -> None:
    with pytest.raises(ConfigurationError, match=r"^WORKERS: .* have no room$"), metrics_directory(2, [Path("/proc")]):
        pass


def test_room_that_ends_half_way_leaves_nothing_behind(tmp_path: Path) -> None:
    """A limit on the size of files stands in for a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(ConfigurationError, match=r"^WORKERS: "), metrics_directory(2, [tmp_path]):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


async def test_a_worker_whose_directory_is_gone_counts_alone(
    settings: Callable[..., Settings], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = _app_of_worker(settings(), tmp_path / "gone")
    assert app.routes
    assert "this worker counts for itself alone: No such file or directory" in caplog.text


# --- The whole service -----------------------------------------------------------------------------------------------


def ask(address: tuple[str, int], method: str, path: str) -> bytes:
    """One request over a connection of its own, which the kernel gives to either worker."""
    connection = http.client.HTTPConnection(*address, timeout=TIMEOUT)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        assert response.status == 200
        return response.read()
    finally:
        connection.close()


def total(server: Server, name: str) -> float:
    """A number as one of the workers shows it, which may be a second old."""
    text = ask(server.address, "GET", "/metrics").decode()
    assert "_created" not in text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == f"clerk_logout_{name}"
    )


def workers_of(server: Server) -> set[int]:
    """The process ids of the workers: children that run the app, without multiprocessing's own helper."""
    workers = set()
    for pid in Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split():
        with suppress(OSError):  # it has ended meanwhile
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                workers.add(int(pid))
    return workers


def directories_of(server: Server) -> list[Path]:
    """Where each worker counts, as its memory map tells; a worker that has not begun yet has none."""
    maps = "".join(Path(f"/proc/{pid}/maps").read_text() for pid in workers_of(server))
    return [Path(found) for found in re.findall(r"(/\S+)/counter_\d+\.db$", maps, re.MULTILINE)]


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def log_out(server: Server, times: int) -> None:
    for _ in range(times):
        ask(server.address, "DELETE", "/v1/auth/session")


def test_two_workers_show_the_sum_whichever_answers_also_after_one_was_killed() -> None:
    with serve(settings={"WORKERS": "2"}) as server:
        wait_until(lambda: total(server, "ready") == 1)
        log_out(server, 100)
        wait_until(lambda: {total(server, "events_total") for _ in range(20)} == {100})

        before = workers_of(server)
        os.kill(min(before), signal.SIGKILL)
        wait_until(lambda: len(workers_of(server) - before) == 1 and len(workers_of(server)) == 2)
        log_out(server, 100)
        wait_until(lambda: {total(server, "events_total") for _ in range(20)} == {200})
        assert server.stop() == 0


def test_several_workers_count_in_memory_and_leave_nothing_there() -> None:
    with serve(settings={"WORKERS": "2"}) as server:
        wait_until(lambda: len(directories_of(server)) == 2)
        (directory,) = set(directories_of(server))
        assert directory.parent == SHARED_MEMORY
        assert directory.is_dir()
        assert server.stop() == 0
    assert not directory.exists()


def test_one_process_takes_no_directory_from_its_environment(tmp_path: Path) -> None:
    with serve(settings={"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "missing")}) as server:
        log_out(server, 3)
        assert total(server, "events_total") == 3

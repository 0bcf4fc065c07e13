"""Numbers that several workers count together, in files that all of them map into memory.

prometheus-client names such a file after the worker's process id, and leaves it behind when the worker dies: a worker
that is killed every minute would fill the memory. Here a file belongs to a slot instead. A worker takes the first
free one and goes on counting where its predecessor stopped, so there are as many files as workers, and no counter
ever goes back.
"""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from prometheus_client import Metric, values
from prometheus_client.multiprocess import MultiProcessCollector

from service.metrics import Metrics
from service.settings import ConfigurationError

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a directory with a random name is made in it
PREFIX = "clerk-logout-metrics-"
STARTING = 60.0
"""Seconds after which a directory that nobody holds was left behind by processes that were killed."""
PARENT = -1
"""What the parent holds, in place of a slot."""
SPARE_SLOTS = 1
"""While workers are replaced one by one (SIGHUP) there is one more than usual."""
FILES = {"counter": 1 << 16, "histogram": 1 << 18, "gauge_livesum": 1 << 12, "gauge_livemin": 1 << 12}
"""Bytes that each of a slot's files has from the start: more than all label values together need."""


@contextmanager
def metrics_directory(workers: int, places: Iterable[Path | None] = (SHARED_MEMORY, None)) -> Iterator[Path]:
    """Make the directory that ``count_in`` wants, and remove it at the end.

    The files are written in full here. A worker that touched a page for which there is no room any more would be
    killed by SIGBUS; so the room is taken now, and in memory, because disks are what runs full.

    Args:
        workers: how many there will be.
        places: where to make it, the best place first; None is the directory for temporary files.

    Raises:
        ConfigurationError: there is no room in any place.
    """
    for place in places:
        _remove_what_was_left(place or Path(tempfile.gettempdir()))
        with suppress(OSError):
            directory = tempfile.TemporaryDirectory(prefix=PREFIX, dir=place)
            try:
                _take(Path(directory.name), PARENT)
                for slot in range(workers + SPARE_SLOTS):
                    for kind, size in FILES.items():
                        Path(directory.name, f"{kind}_{slot}.db").write_bytes(bytes(size))
            except OSError:
                directory.cleanup()
                raise
            break
    else:
        raise ConfigurationError(
            "WORKERS", "more than one count in shared memory, and /dev/shm and TMPDIR have no room"
        )
    with directory:
        yield Path(directory.name)


def count_in(directory: Path) -> Metrics:
    """Give the metrics of this process, counted in a free slot of the directory until the process ends.

    Call it once in a process, and before anything else of prometheus-client is made.
    """
    slot = next(slot for slot in count() if _take(directory, slot))
    # As in prometheus-client's documentation for uWSGI, whose workers have numbers as well.
    values.ValueClass = values.MultiProcessValue(lambda: slot)  # type: ignore[no-untyped-call]
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
    return Metrics(exposed=WorkersCollector(directory))


class WorkersCollector:
    """Adds up what all slots of a directory hold. Gauges of a slot that no worker holds any more do not count."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def collect(self) -> Iterable[Metric]:
        """Give all metrics."""
        files = [path for path in self._directory.glob("*.db") if self._counts(path)]
        metrics: Iterable[Metric] = MultiProcessCollector.merge(map(str, files))  # type: ignore[no-untyped-call]
        return metrics

    def _counts(self, path: Path) -> bool:
        if path.stat().st_size == 0:  # just being made, which prometheus-client cannot read
            return False
        kind, _, slot = path.stem.rpartition("_")
        return not kind.startswith("gauge") or not _is_free(self._directory, int(slot))


def _remove_what_was_left(place: Path) -> None:
    for directory in place.glob(f"{PREFIX}*"):
        with suppress(OSError):
            starting = directory.stat().st_mtime > time.time() - STARTING
            if not starting and all(_is_free(directory, int(lock.stem)) for lock in directory.glob("*.lock")):
                shutil.rmtree(directory)


def _take(directory: Path, slot: int) -> bool:
    """Lock a slot, if no other process holds it. The kernel unlocks it when this process ends, however it ends."""
    lock = os.open(directory / f"{slot}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return False
    return True


def _is_free(directory: Path, slot: int) -> bool:
    try:
        lock = os.open(directory / f"{slot}.lock", os.O_RDONLY)
    except FileNotFoundError:  # never taken
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(lock)

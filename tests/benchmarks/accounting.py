"""What processes have used, by the kernel's own account."""

import ctypes
import time
from dataclasses import dataclass

import psutil  # type: ignore[import-untyped] # it brings no types

LOOK = 0.15
"""Seconds between two looks at whether a process is idle."""
TIMEOUT = 30
"""Seconds after which it is taken for one that never is."""

_clock_getcpuclockid = ctypes.CDLL(None, use_errno=True).clock_getcpuclockid


def processor_seconds(pid: int) -> float:
    """Give the processor time of a process and its children, user and system, in seconds.

    The clock of another process (POSIX, clock_getcpuclockid) counts nanoseconds over all its threads, those that have
    ended as well; ``/proc/<pid>/stat`` counts ticks of 10 ms.
    """
    process = psutil.Process(pid)
    return sum(_clock_of(each.pid) for each in [process, *process.children(recursive=True)])


def wait_until_idle(pid: int) -> None:
    """Wait until a process and its children have nothing to do: what was under way when wrk ended has had its turn.

    The service writes once per turn of its event loop, which takes most of a second with 2,000 requests, so a log that
    stands still says nothing. On a busy machine one that waits for a processor is no more idle than one that has it.
    """
    deadline = time.monotonic() + TIMEOUT
    before = processor_seconds(pid)
    while time.monotonic() < deadline:
        time.sleep(LOOK)
        now = processor_seconds(pid)
        if now - before < LOOK / 10 and not _runnable(pid):
            return
        before = now


def _runnable(pid: int) -> bool:
    process = psutil.Process(pid)
    return any(each.status() == psutil.STATUS_RUNNING for each in [process, *process.children(recursive=True)])


def _clock_of(pid: int) -> float:
    clock = ctypes.c_int()
    if problem := _clock_getcpuclockid(pid, ctypes.byref(clock)):
        raise OSError(problem, "no processor clock of this process")
    return time.clock_gettime(clock.value)


@dataclass(frozen=True, slots=True)
class Memory:
    """Of one process, in MB (1 MB = 1024 KB, as ``make`` and the README count).

    Attributes:
        rss: resident.
        pss: the same, with what is shared divided among those who share it.
    """

    rss: float
    pss: float


def memory(pid: int) -> Memory:
    """Give the memory of a process, or of its largest child where workers do its work."""
    process = psutil.Process(pid)
    full = [each.memory_full_info() for each in [process, *process.children(recursive=True)]]
    largest = max(full, key=lambda each: int(each.rss))
    return Memory(largest.rss / 2**20, largest.pss / 2**20)

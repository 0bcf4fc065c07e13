"""Spools as dead processes leave them, and lines to put into them."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uuid_utils

from service.events.spool import Spool
from tests.support.processes import TIMEOUT

_HOLDER = """
import sys
from service.events.spool import Spool
spool = Spool(sys.argv[1], 1 << 30)
spool.look_after()
if len(sys.argv) > 2:
    spool.append(sys.argv[2].encode())
print("ready", flush=True)
sys.stdin.read()
"""


class FaultySpool(Spool):
    """A spool whose disk is full, or hangs, for as long as it is told to."""

    def __init__(self, directory: Path, max_bytes: int = 1 << 30) -> None:
        super().__init__(str(directory), max_bytes)
        self.refuses: Exception | None = None
        """What each append raises."""
        self.unreadable: Exception | None = None
        """What each attempt to read raises."""
        self._free = threading.Event()
        self._free.set()
        self.hang, self.let_go = self._free.clear, self._free.set

    def _wait(self) -> None:
        assert self._free.wait(TIMEOUT)

    def look_after(self) -> None:
        self._wait()
        super().look_after()

    def append(self, lines: bytes) -> None:
        self._wait()
        if self.refuses is not None:
            raise self.refuses
        super().append(lines)

    def next_lines(self, limit: int) -> bytes:
        self._wait()
        if self.unreadable is not None:
            raise self.unreadable
        return super().next_lines(limit)

    def close(self) -> None:
        self._wait()
        super().close()


def line(number: int, length: int = 60) -> bytes:
    """An event line of so many bytes, newline included."""
    start = b'{"event":"test","number":%d,"filling":"' % number
    return start + b"#" * (length - len(start) - 3) + b'"}\n'


def numbered(count: int, length: int = 60, start: int = 0) -> list[bytes]:
    return [line(number, length) for number in range(start, start + count)]


def take_all(spool: Spool) -> bytes:
    """Deliver everything that waits."""
    content = b""
    while lines := spool.next_lines(1 << 16):
        content += lines
        spool.delivered(len(lines))
    return content


def leave(directory: Path, *segments: bytes) -> Path:
    """Make what a process leaves that was killed: a directory that nobody holds."""
    name = str(uuid_utils.uuid7())
    left = directory / f"being made {name}"  # nobody adopts it under this name
    left.mkdir(parents=True)
    for number, content in enumerate(segments, start=1):
        (left / f"{number:08}.jsonl").write_bytes(content)
    return left.rename(directory / name)


def claims(directory: Path) -> list[Path]:
    """The directories of processes, oldest first."""
    return sorted(path for path in directory.iterdir() if path.is_dir())


def contents(directory: Path) -> list[bytes]:
    """What the segments of all processes hold."""
    return [path.read_bytes() for path in sorted(directory.glob("*/*.jsonl"))]


@contextmanager
def holder(directory: Path, lines: bytes = b"") -> Iterator["subprocess.Popen[bytes]"]:
    """Another process, which holds a directory with these lines until it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(directory), *([lines.decode()] if lines else [])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process
    finally:
        process.kill()
        process.communicate(timeout=TIMEOUT)


def open_files() -> int:
    """How many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - the list includes the descriptor it is read through

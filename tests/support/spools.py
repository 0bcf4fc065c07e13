"""Spools as dead processes leave them, and lines to put into them."""

import fcntl
import os
import subprocess
import sys
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


def line(number: int, length: int = 60) -> bytes:
    """An event line of so many bytes, newline included."""
    start = b'{"event":"test","number":%d,"filling":"' % number
    return start + b"#" * (length - len(start) - 3) + b'"}\n'


def numbered(count: int, length: int = 60, start: int = 0) -> list[bytes]:
    return [line(number, length) for number in range(start, start + count)]


def take_all(spool: Spool, limit: int = 1 << 16) -> bytes:
    """Deliver everything that waits."""
    content = b""
    while lines := spool.next_lines(limit):
        content += lines
        spool.delivered(len(lines))
    return content


def leave(directory: Path, *segments: bytes) -> Path:
    """Make what a process leaves that was killed: a directory that nobody holds."""
    left = directory / str(uuid_utils.uuid7())
    left.mkdir(parents=True)
    for number, content in enumerate(segments, start=1):
        (left / f"{number:08}.jsonl").write_bytes(content)
    return left


def claims(directory: Path) -> list[Path]:
    """The directories of processes, oldest first."""
    return sorted(path for path in directory.iterdir() if path.is_dir())


def is_held(claim: Path) -> bool:
    """Tell whether a process holds the directory."""
    descriptor = os.open(claim, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


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

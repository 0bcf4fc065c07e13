"""The directories and files that a spool is made of, ``<spool>/<UUID>/<number>.jsonl``; reading them by hand."""

import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

import orjson
import uuid_utils

from service.events.outputs import MAX_LINE

PROBE = "probe"
LINE_START = b'{"event":"'
"""How each event line begins."""
_is_name = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch


@dataclass(frozen=True, slots=True)
class LockedDirectory:
    """A directory of segments that belongs to this process for as long as it holds its lock (flock(2)).

    The kernel releases the lock however the process ends. systemd-tmpfiles leaves a locked directory alone, too.
    """

    path: Path
    descriptor: int

    @classmethod
    def make(cls, parent: Path) -> Self:
        """Make a directory and lock it, before it has a name under which somebody takes it for one that was left."""
        name = str(uuid_utils.uuid7())  # so that names sort by age
        path = parent / f".{name}"
        path.mkdir(mode=0o700)
        try:
            return cls(parent / name, _lock(path, parent / name))
        except OSError:
            path.rmdir()
            raise

    @classmethod
    def lock(cls, path: Path) -> Self | None:
        """Lock a directory that may be left over; None if another process holds it, or it is gone.

        Raises:
            OSError: it cannot be opened or locked, or belongs to another user.
        """
        try:
            return cls(path, _lock(path, path))
        except (BlockingIOError, FileNotFoundError):
            return None

    def exists(self) -> bool:
        """Tell whether the directory's name still leads to it."""
        try:
            return os.path.samestat(os.fstat(self.descriptor), self.path.lstat())
        except FileNotFoundError:
            return False

    def segments(self) -> list[Path]:
        """Return the files of lines in it, oldest first."""
        return sorted(path for path in self.path.glob("*.jsonl") if path.is_file() and not path.is_symlink())

    def close(self) -> None:
        """Remove the directory if it holds no lines, and unlock it."""
        with suppress(OSError):
            (self.path / PROBE).unlink(missing_ok=True)
            self.path.rmdir()
        os.close(self.descriptor)


def _lock(path: Path, name: Path) -> int:
    """Lock a directory and give it this name; return its descriptor. No wait: BlockingIOError if another holds it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, "it belongs to another user")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Fails if the process that held it until now has removed it.
        path.rename(name)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def make_or_check(spool: Path) -> None:
    """Make the spool's directory with mode 0700, or see that nobody but us and root can own what is put into it.

    Raises:
        OSError: it cannot be made, is a symbolic link or no directory, or belongs to another user.
    """
    with suppress(FileExistsError):
        spool.mkdir(mode=0o700, parents=True)
    status = spool.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, "it is no directory, or a symbolic link")
    if status.st_uid not in {os.geteuid(), 0}:
        raise PermissionError(errno.EPERM, "it belongs to another user")


def directories(spool: Path) -> Iterator[Path]:
    """Give the directories in the spool that are ours by their names, oldest first."""
    return (spool / name for name in sorted(filter(_is_name, os.listdir(spool))))  # noqa: PTH208 - no Path each


def event_lines(segment: Path, size: int = -1) -> bytes:
    """Return the event lines among a segment's first bytes, or all of them.

    Half a line at the end (its writer died before anybody was told that it is recorded) and what is no event line
    (a damaged disk) are left out.
    """
    with segment.open("rb") as file:
        return b"".join(line for line in file.read(size).splitlines(keepends=True) if _is_event(line))


def _is_event(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return line.startswith(LINE_START) and line.endswith(b"\n") and len(line) <= MAX_LINE


def print_waiting(spool: Path, out: BinaryIO, *, drain: bool) -> list[str]:
    """Print the lines that wait in a spool, oldest first, but not those of a process that runs.

    Args:
        spool: its directory.
        out: takes the lines.
        drain: remove each file once its lines are written and flushed; otherwise nothing is changed.

    Returns:
        What there is to say about it, a sentence each.

    Raises:
        OSError: a directory cannot be read, or ``out`` takes no more; what was not written stays.
    """
    lines = damaged = held = 0
    for path in directories(spool):
        left = LockedDirectory.lock(path)
        if left is None:
            held += 1
            continue
        try:
            for segment in left.segments():
                found = event_lines(segment)
                out.write(found)
                out.flush()
                lines += found.count(b"\n")
                damaged += segment.stat().st_size - len(found)
                if drain:
                    segment.unlink()
        finally:
            left.close() if drain else os.close(left.descriptor)
    return [
        f"{lines} lines {'written and removed' if drain else 'wait'}",
        *([f"{damaged} bytes are no event lines and were left out"] if damaged else []),
        *([f"left alone, because a process that runs holds them: {held} directories"] if held else []),
    ]

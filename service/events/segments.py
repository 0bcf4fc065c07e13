"""The files and directories that the spool is made of."""

import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Self

import orjson
import uuid_utils

from service.events.outputs import MAX_LINE, whole_lines

PROBE = "probe"
REST = ".rest"
LINE_START = b'{"event":"'
"""How each event line begins."""
_is_name = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch


@dataclass(slots=True, eq=False)
class LockedDirectory:
    """A directory of segments that belongs to this process for as long as it holds its lock (flock(2)).

    The kernel releases the lock however the process ends. systemd-tmpfiles leaves a locked directory alone, too.
    """

    path: Path
    descriptor: int

    @classmethod
    def make(cls, parent: Path) -> Self:
        """Make a directory and lock it, under a name that nobody takes for one that was left over.

        Raises:
            OSError: it cannot be made or locked.
        """
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

    def close(self) -> None:
        """Remove the directory if it holds no lines, and unlock it."""
        with suppress(OSError):
            for file in (self.path / PROBE, *self.path.glob(f"*{REST}")):
                file.unlink(missing_ok=True)
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


@dataclass(slots=True, eq=False)
class Segment:
    """A file of lines, which is read from its start and removed when it has been read."""

    path: Path
    directory: LockedDirectory | None
    """None where another process holds it."""
    size: int = 0
    """Bytes that count; what lies behind them was never acknowledged."""
    is_adopted: bool = False
    """Another process wrote it, so what is in it is looked at before it is given out."""
    descriptor: int = -1
    read: int = 0
    """Bytes from the start that are done with."""
    skipped: int = 0
    """Bytes among them that were no event line."""

    @property
    def left(self) -> int:
        """Bytes that are still to be read."""
        return self.size - self.read

    def next_lines(self, limit: int) -> bytes:
        """Return the next lines, at most ``limit`` bytes of them; none only when nothing is left.

        Half a line at the end (its writer died before anybody was told that it is recorded) and what is no event line
        (a damaged disk) are skipped.

        Raises:
            OSError: it cannot be read.
        """
        if self.descriptor < 0:
            self.descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        while self.left > 0:
            chunk = os.pread(self.descriptor, min(limit, self.left), self.read)
            lines = whole_lines(chunk, limit)
            good = lines[: _leading(lines, events=True)] if self.is_adopted else lines
            if good:
                return good
            bad = _leading(lines, events=False) or len(chunk) or self.left
            self.read += bad
            self.skipped += bad
        return b""

    def keep_what_is_left(self) -> None:
        """Shorten the file to what is still to be read, so that nobody reads the rest of it again."""
        if not 0 < self.read < self.size:
            return
        rest = self.path.with_suffix(REST)
        with suppress(OSError):  # then all of it is read again
            with self.path.open("rb") as old, rest.open("wb") as new:
                old.seek(self.read)
                new.write(old.read(self.left))
                new.flush()
                os.fdatasync(new.fileno())
            rest.rename(self.path)

    def close(self) -> None:
        """Close the file; ``next_lines`` opens it again."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


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


def directories(parent: Path) -> Iterator[Path]:
    """Give the directories in the spool that are ours by their names, oldest first.

    Raises:
        OSError: the spool's directory cannot be read.
    """
    return (parent / name for name in sorted(filter(_is_name, os.listdir(parent))))  # noqa: PTH208 - no Path each


def segments(path: Path, directory: LockedDirectory | None = None) -> list[Segment]:
    """Return the segments in a directory, in order; a directory that is gone has none."""
    found = []
    for file in sorted(path.glob("*.jsonl")):
        with suppress(FileNotFoundError):  # delivered in this moment, by the process that holds it
            status = file.lstat()
            if stat.S_ISREG(status.st_mode):
                found.append(Segment(file, directory, status.st_size, is_adopted=True))
    return found


def _leading(lines: bytes, *, events: bool) -> int:
    """Return the length of the lines at the start that are event lines, or that are not."""
    return sum(map(len, takewhile(lambda line: _is_event(line) is events, lines.splitlines(keepends=True))))


def _is_event(line: bytes) -> bool:
    if len(line) > MAX_LINE or not line.startswith(LINE_START) or not line.endswith(b"\n"):
        return False
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True

"""The files and directories that the spool is made of."""

import errno
import fcntl
import os
import re
import stat
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import orjson
import uuid_utils

from service.events.lines import LINE_START, MAX_LINE, first_lines

PROBE = "probe"
REST = ".rest"
_is_name = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch


@dataclass(slots=True, eq=False)
class Segment:
    """A file of lines, which is read from its start and removed when it has been read."""

    path: Path
    size: int = 0
    """Bytes that count; what lies behind them was never acknowledged."""
    is_adopted: bool = False
    """Another process wrote it, so what is in it is looked at before it is given out."""
    descriptor: int = -1
    read: int = 0
    """Bytes from the start that are done with."""
    passed_over: int = 0
    """Bytes among them that were no event line."""

    @property
    def left(self) -> int:
        """Bytes that are still to be read."""
        return self.size - self.read

    def next_lines(self, limit: int) -> bytes:
        """Give the next lines, at most ``limit`` bytes of them; none only when nothing is left.

        Half a line at the end (its writer died before anybody was told that it is recorded) and what is no event line
        (a damaged disk) are passed over.

        Raises:
            OSError: it cannot be read.
        """
        if self.descriptor < 0:
            self.descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        while self.left > 0:
            chunk = os.pread(self.descriptor, min(limit, self.left), self.read)
            lines = first_lines(chunk, limit)
            start, end = _event_lines(lines) if self.is_adopted else (0, len(lines))
            bad = start if start < end else len(lines) or len(chunk) or self.left
            if start == 0 < end:
                return lines[:end]
            self.read += bad
            self.passed_over += bad
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


@dataclass(slots=True, eq=False)
class Claim:
    """A directory of segments that this process holds by its lock (flock(2)).

    The kernel releases the lock however the process ends. systemd-tmpfiles leaves a locked directory alone, too.
    """

    path: Path
    descriptor: int
    segments: deque[Segment] = field(default_factory=deque)

    @classmethod
    def make(cls, parent: Path) -> Self:
        """Make a directory and hold it.

        Raises:
            OSError: it cannot be made or locked.
        """
        while True:
            # UUIDv7, so that names sort by age.
            path = parent / str(uuid_utils.uuid7())
            path.mkdir(mode=0o700)
            try:
                claim = cls.hold(path)
            except OSError:
                path.rmdir()
                raise
            if claim is not None:  # else somebody took it for one that was left over
                return claim

    @classmethod
    def hold(cls, path: Path) -> Self | None:
        """Hold a directory with what is in it; None if another process holds it, or it is gone.

        Raises:
            OSError: it cannot be locked or read.
        """
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        claim = cls(path, descriptor)
        try:
            if os.fstat(descriptor).st_uid != os.geteuid():
                raise PermissionError(errno.EPERM, "it belongs to another user")
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if claim.is_there():
                claim.segments.extend(segments(path))
                return claim
        except BlockingIOError:
            pass
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    def is_there(self) -> bool:
        """Tell whether the directory's name still leads to it."""
        try:
            return os.path.samestat(os.fstat(self.descriptor), self.path.stat())
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Give it up; a directory without lines is removed."""
        for segment in self.segments:
            segment.close()
            segment.keep_what_is_left()
        if not self.segments:
            with suppress(OSError):
                for file in (self.path / PROBE, *self.path.glob(f"*{REST}")):
                    file.unlink(missing_ok=True)
                self.path.rmdir()
        os.close(self.descriptor)


def claimable(parent: Path) -> list[Path]:
    """The directories in the spool that are ours by their names, oldest first.

    Raises:
        OSError: the spool's directory cannot be read.
    """
    with os.scandir(parent) as entries:
        return [parent / name for name in sorted(entry.name for entry in entries) if _is_name(name)]


def segments(path: Path) -> list[Segment]:
    """The segments in a directory, in order; a directory that is gone has none."""
    found = []
    for file in sorted(path.glob("*.jsonl")):
        with suppress(FileNotFoundError):  # delivered in this moment, by the process that holds it
            status = file.lstat()
            if stat.S_ISREG(status.st_mode):
                found.append(Segment(file, status.st_size, is_adopted=True))
    return found


def _event_lines(lines: bytes) -> tuple[int, int]:
    """Where the first event lines that follow each other begin and end."""
    start = end = 0
    for line in lines.splitlines(keepends=True):
        if _is_event(line):
            end += len(line)
        elif start < end:
            break
        else:
            start = end = end + len(line)
    return start, end


def _is_event(line: bytes) -> bool:
    if len(line) > MAX_LINE or not line.startswith(LINE_START) or not line.endswith(b"\n"):
        return False
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True

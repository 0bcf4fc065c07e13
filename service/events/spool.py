"""The spool: lines on local disk that wait for the event log.

Below the spool's directory each process has one of its own, which it holds by a lock (flock(2)) for as long as it
lives. The kernel releases the lock however the process ends, so a directory that can be locked is left over, and its
lines are adopted by whoever locks it: two processes never deliver the same one. A directory holds segments, numbered
files of whole lines; one is removed when it has been delivered, so a crash in the middle repeats one at the most.
"""

import errno
import fcntl
import logging
import os
import stat
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import uuid_utils

from service.events.disk import sync_directory, write_all
from service.events.lines import LINE_START, MAX_LINE, first_lines

logger = logging.getLogger("service.spool")

SEGMENT_BYTES = 4 << 20
"""Bytes after which the next segment begins."""
_LOCK = "lock"
_PROBE = "probe"
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_CREATE = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(slots=True)
class _Segment:
    """A file of lines."""

    path: Path
    size: int
    """Bytes that count: whole lines."""
    adopted: bool
    """Written by another process, so what is in it is looked at before it is delivered."""
    descriptor: int = -1
    delivered: int = 0

    def open(self) -> int:
        """Give a descriptor to read from."""
        if self.descriptor < 0:
            self.descriptor = os.open(self.path, _READ)
        return self.descriptor

    def close(self) -> None:
        """Close the descriptor, if there is one."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    @property
    def left(self) -> int:
        """Bytes that were not delivered yet."""
        return self.size - self.delivered


@dataclass(slots=True)
class _Claim:
    """A directory that this process holds."""

    path: Path
    lock: int
    segments: deque[_Segment] = field(default_factory=deque)

    def remove(self) -> None:
        """Remove the directory, which holds no lines any more."""
        with suppress(OSError):
            (self.path / _PROBE).unlink(missing_ok=True)
            (self.path / _LOCK).unlink(missing_ok=True)
            self.path.rmdir()
        os.close(self.lock)


class Spool:
    """Lines that wait, oldest first. Its methods block: they are called from one thread, which is not the event loop's.

    Args:
        directory: on local disk; made with mode 0700 when it is missing.
        max_bytes: what may wait in it, over all processes that share it.
        fsync: make each append durable with fdatasync(2).
    """

    def __init__(self, directory: str, max_bytes: int, *, fsync: bool = False) -> None:
        self._directory = Path(directory)
        self._max_bytes = max_bytes
        self._fsync = fsync
        self._adopted: deque[_Claim] = deque()
        self._own: _Claim | None = None
        self._current: _Segment | None = None
        self._number = 0
        self._elsewhere = 0
        self._trouble: str | None = "not opened yet"
        self._warned: set[str] = set()
        self.size = 0
        """Bytes of lines that wait, in directories of this process."""

    @property
    def problem(self) -> str | None:
        """Why it takes no lines, in one line; None while it does."""
        if self.size + self._elsewhere + MAX_LINE > self._max_bytes:
            return "it holds EVENT_SPOOL_MAX_BYTES"
        return self._trouble

    def look_after(self) -> None:
        """Adopt what dead processes left, and find out whether lines could be written. Never raises."""
        try:
            own = self._hold_own()
            self._adopt()
            probe = os.open(own.path / _PROBE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            try:
                write_all(probe, b" " * MAX_LINE)
            finally:
                os.close(probe)
                (own.path / _PROBE).unlink()
        except OSError as error:
            self._trouble = error.strerror
        else:
            self._trouble = None

    def append(self, lines: bytes) -> None:
        """Write whole lines, all or none.

        Raises:
            OSError: none was written.
        """
        try:
            if self.size + self._elsewhere + len(lines) > self._max_bytes:
                raise OSError(errno.EDQUOT, "it holds EVENT_SPOOL_MAX_BYTES")
            segment = self._current or self._begin_segment()
            try:
                write_all(segment.descriptor, lines)
                if self._fsync:
                    os.fdatasync(segment.descriptor)
            except OSError:
                with suppress(OSError):  # what cannot be cut off is never read: it lies behind the segment's size
                    os.ftruncate(segment.descriptor, segment.size)
                self._end_segment()
                raise
        except OSError as error:
            self._trouble = error.strerror
            raise
        self._trouble = None
        segment.size += len(lines)
        self.size += len(lines)
        if segment.size >= SEGMENT_BYTES:
            self._end_segment()

    def next_lines(self, limit: int) -> bytes:
        """Give the oldest lines that were not delivered yet, at most ``limit`` bytes; empty when nothing waits.

        Raises:
            OSError: too many files are open to read them now.
        """
        while (segment := self._oldest()) is not None:
            try:
                chunk = os.pread(segment.open(), min(limit, segment.left), segment.delivered)
            except OSError as error:
                if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOMEM}:
                    raise
                self._set_aside(segment, error)
                continue
            lines = first_lines(chunk, limit)
            good = lines[: _good_bytes(lines)] if segment.adopted else lines
            if good:
                return good
            # Half a line at the end: its writer died before anybody was told that it is recorded. Or a damaged disk.
            bad = chunk.find(b"\n") + 1 or len(chunk) or segment.left
            if bad:
                logger.warning("%d bytes in the spool are no event line and are passed over", bad)
            self.delivered(bad)
        self.size = 0
        return b""

    def delivered(self, count: int) -> None:
        """Forget the oldest bytes: they have been delivered."""
        segment = self._oldest()
        assert segment is not None, "what was given by next_lines is delivered"  # noqa: S101 - tells mypy
        segment.delivered += count
        self.size -= count
        if segment.left == 0:
            with suppress(OSError):  # a disk that cannot remove it any more will have it delivered again
                segment.path.unlink()
            self._drop_oldest()

    def close(self) -> None:
        """Give up the directories; what still waits in them is for the next process."""
        for claim in filter(None, (*self._adopted, self._own)):
            for segment in claim.segments:
                segment.close()
            if claim.segments:
                os.close(claim.lock)
            else:
                claim.remove()
        self._adopted.clear()
        self._own = self._current = None

    # --- Segments ---

    def _oldest(self) -> _Segment | None:
        for claim in self._adopted:
            return claim.segments[0]
        return self._own.segments[0] if self._own and self._own.segments else None

    def _set_aside(self, segment: _Segment, error: OSError) -> None:
        """Leave a file that cannot be read where it is, for a person to look at."""
        logger.error("events cannot be read from the spool and stay in %s: %s", segment.path, error.strerror)
        with suppress(OSError):  # its directory is left without a lock, so nobody adopts it in any case
            segment.path.rename(segment.path.with_suffix(".unreadable"))
        self.size -= segment.left
        self._drop_oldest()

    def _drop_oldest(self) -> None:
        claim = self._adopted[0] if self._adopted else self._own
        assert claim is not None, "it holds the oldest segment"  # noqa: S101 - tells mypy
        segment = claim.segments.popleft()
        if segment is self._current:
            self._current = None
        segment.close()
        if claim is not self._own and not claim.segments:
            self._adopted.popleft().remove()

    def _begin_segment(self) -> _Segment:
        own = self._hold_own()
        self._number += 1
        path = own.path / f"{self._number:08}.jsonl"
        segment = _Segment(path, 0, adopted=False, descriptor=os.open(path, _CREATE, 0o600))
        own.segments.append(segment)
        self._current = segment
        if self._fsync:
            sync_directory(own.path)
        return segment

    def _end_segment(self) -> None:
        """Let the next line begin a new segment; the descriptor stays for reading."""
        segment, self._current = self._current, None
        assert segment is not None, "it was being written to"  # noqa: S101 - tells mypy
        if segment.size == 0:
            assert self._own is not None  # noqa: S101 - tells mypy
            self._own.segments.remove(segment)
            segment.close()
            segment.path.unlink()

    # --- Directories ---

    def _hold_own(self) -> _Claim:
        while self._own is None:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            # UUIDv7, so that names sort by age.
            path = self._directory / str(uuid_utils.uuid7())
            path.mkdir(mode=0o700)
            try:
                lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:
                continue  # another process took the directory for one that was left over
            except OSError:
                path.rmdir()
                raise
            if _take(lock, path):
                self._own = _Claim(path, lock)
        return self._own

    def _adopt(self) -> None:
        """Take over what dead processes left, and see how much living ones keep."""
        held = {claim.path.name for claim in filter(None, (*self._adopted, self._own))}
        self._elsewhere = 0
        with os.scandir(self._directory) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        for name in names:
            if name in held:
                continue
            path = self._directory / name
            try:
                if not self._is_ours(path):
                    continue
                lock = os.open(path / _LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                with suppress(OSError):  # left by a process that died before it made the lock
                    path.rmdir()
                continue
            if not _take(lock, path):
                self._elsewhere += sum(segment.size for segment in _segments(path))
                continue
            claim = _Claim(path, lock, deque(_segments(path)))
            if not claim.segments:
                claim.remove()
                continue
            size = sum(segment.size for segment in claim.segments)
            logger.warning("%d bytes of events that a process left behind are delivered now", size)
            self._adopted.append(claim)
            self.size += size

    def _is_ours(self, path: Path) -> bool:
        """Tell whether a directory is of this user; lines of another one could be anything."""
        if path.lstat().st_uid == os.geteuid():
            return True
        if path.name not in self._warned:
            self._warned.add(path.name)
            logger.warning("a directory in the spool belongs to another user and is left alone: %s", path.name)
        return False


def _take(lock: int, path: Path) -> bool:
    """Take a directory's lock and tell whether it is held now; where not, the descriptor is closed."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever held it before may have removed the directory in between.
        if os.path.samestat(os.fstat(lock), os.stat(path / _LOCK)):
            return True
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(lock)
    return False


def _segments(path: Path) -> list[_Segment]:
    """The segments in a directory, in order."""
    segments = []
    for file in sorted(path.glob("*.jsonl")):
        with suppress(FileNotFoundError):  # delivered in this moment
            found = file.lstat()
            if stat.S_ISREG(found.st_mode):
                segments.append(_Segment(file, found.st_size, adopted=True))
    return segments


def _good_bytes(lines: bytes) -> int:
    """How many bytes, from the first one, are event lines."""
    good = 0
    for line in lines.splitlines(keepends=True):
        try:
            if not line.startswith(LINE_START) or not isinstance(orjson.loads(line), dict):
                break
        except orjson.JSONDecodeError:
            break
        good += len(line)
    return good

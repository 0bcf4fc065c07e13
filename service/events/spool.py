"""The spool: lines on local disk that wait for the event log.

Below the spool's directory each process has one of its own, which it locks for as long as it lives. One that can be
locked is left over, and its lines are adopted by whoever locks it: two processes never deliver the same one. A
directory holds segments, numbered files of whole lines; one is removed when it has been delivered, so a crash in the
middle of a delivery repeats one segment at the most.
"""

import errno
import logging
import os
from collections import deque
from contextlib import suppress
from itertools import islice
from pathlib import Path

from service.events.outputs import MAX_LINE, sync_directory
from service.events.segments import PROBE, LockedDirectory, Segment, directories, make_or_check, segments

logger = logging.getLogger("service.spool")

SEGMENT_BYTES = 1 << 20
"""Bytes after which the next segment begins."""
MAX_ADOPTED = 64
"""Directories of dead processes that are held at once; each costs an open file."""
MAX_LOOKED_AT = 1000
"""Directories of others that one look goes through, so that it never holds the lines up for long."""
FULL = "it holds EVENT_SPOOL_MAX_BYTES"
_TOO_MANY_FILES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}


class Spool:
    """Lines that wait, oldest first. Its methods block: they are called from one thread, which is not the event loop's.

    Args:
        directory: on local disk; made with mode 0700 when it is missing.
        max_bytes: what may wait in it, over all processes that share it (as far as the last look told).
        fsync: make each append durable with fdatasync(2).
    """

    def __init__(self, directory: str, max_bytes: int, *, fsync: bool = False) -> None:
        self._directory = Path(directory)
        self._max_bytes = max_bytes
        self._fsync = fsync
        self._own: LockedDirectory | None = None
        self._adopted: list[LockedDirectory] = []
        self._segments: deque[Segment] = deque()
        """All that wait, in the order of their delivery."""
        self._current: Segment | None = None
        """The one of them that is written to."""
        self._number = 0
        self._elsewhere = 0
        """Bytes that wait in the directories of other processes."""
        self._error: str | None = "not opened yet"
        self._left_alone: set[Path] = set()
        self.size = 0
        """Bytes of lines that wait, in the directories that this process holds."""

    @property
    def problem(self) -> str | None:
        """Why it takes no lines, in one line; None while it does."""
        return FULL if self.size + self._elsewhere + MAX_LINE > self._max_bytes else self._error

    def look_after(self) -> None:
        """Adopt what dead processes left, and find out whether lines could be written. Never raises OSError."""
        try:
            make_or_check(self._directory)
            # First, because what was left may be what fills the disk.
            self._adopt()
            probe = self._own_directory().path / PROBE
            descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            try:
                _write_all(descriptor, b" " * MAX_LINE)
            finally:
                os.close(descriptor)
                probe.unlink()
        except OSError as error:
            self._error = error.strerror
        else:
            self._error = None

    def append(self, lines: bytes) -> None:
        """Write whole lines, all or none.

        Raises:
            OSError: none was written.
        """
        try:
            if self.size + self._elsewhere + len(lines) > self._max_bytes:
                raise OSError(errno.EDQUOT, FULL)
            directory = self._own_directory()
            segment = self._current or self._begin_segment(directory)
            try:
                _write_all(segment.descriptor, lines)
                if self._fsync:
                    os.fdatasync(segment.descriptor)
            except OSError:
                with suppress(OSError):  # what cannot be cut off is never read: it lies behind the segment's size
                    os.ftruncate(segment.descriptor, segment.size)
                self._end_segment(segment)
                raise
        except OSError as error:
            self._error = error.strerror
            raise
        self._error = None
        segment.size += len(lines)
        self.size += len(lines)
        if segment.size >= SEGMENT_BYTES:
            self._end_segment(segment)

    def next_lines(self, limit: int) -> bytes:
        """Return the oldest lines that were not delivered yet, at most ``limit`` bytes; empty when nothing waits.

        Raises:
            OSError: they cannot be read now (too many open files).
        """
        while self._segments:
            segment = self._segments[0]
            left = segment.left
            try:
                lines = segment.next_lines(limit)
            except OSError as error:
                if error.errno in _TOO_MANY_FILES:
                    raise
                self._set_aside(segment, error)
                continue
            self.size -= left - segment.left
            if lines:
                return lines
            self._remove(segment)
        self.size = 0
        return b""

    def delivered(self, count: int) -> None:
        """Forget the next bytes of what ``next_lines`` returned: they have been delivered."""
        segment = self._segments[0]
        segment.read += count
        self.size -= count
        if segment.left == 0:
            self._remove(segment)

    def close(self) -> None:
        """Give up the directories; what still waits in them is for the next process."""
        for segment in self._segments:
            segment.close()
            segment.keep_what_is_left()
        for directory in filter(None, (*self._adopted, self._own)):
            directory.close()
        self._segments.clear()
        self._adopted.clear()
        self._own = self._current = None

    # --- Segments ---

    def _begin_segment(self, directory: LockedDirectory) -> Segment:
        self._number += 1
        path = directory.path / f"{self._number:08}.jsonl"
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        segment = Segment(path, directory, descriptor=os.open(path, flags, 0o600))
        self._segments.append(segment)
        self._current = segment
        if self._fsync:
            sync_directory(directory.path)
        return segment

    def _end_segment(self, segment: Segment) -> None:
        """Let the next line begin a new segment."""
        self._current = None
        segment.close()
        if segment.size == 0:
            self._remove(segment)

    def _remove(self, segment: Segment) -> None:
        if segment.skipped:
            logger.warning("%d bytes in the spool were no event line and were skipped", segment.skipped)
        with suppress(OSError):  # a disk that cannot remove it any more will have it delivered again
            segment.path.unlink()
        self._forget(segment)

    def _set_aside(self, segment: Segment, error: OSError) -> None:
        """Leave a file that cannot be read where it is, for a person to look at."""
        logger.error("events in the spool cannot be read and are set aside: %s: %s", segment.path, error.strerror)
        with suppress(OSError):
            segment.path.rename(segment.path.with_suffix(".unreadable"))
        self.size -= segment.left
        self._forget(segment)

    def _forget(self, segment: Segment) -> None:
        """Forget a segment, and the directory that was adopted for it and others."""
        self._segments.remove(segment)
        segment.close()
        if segment is self._current:
            self._current = None
        directory = segment.directory
        if directory in self._adopted and not any(other.directory is directory for other in self._segments):
            self._adopted.remove(directory)
            directory.close()

    # --- Directories ---

    def _own_directory(self) -> LockedDirectory:
        """Return our own directory, made anew where somebody has removed it."""
        make_or_check(self._directory)
        if self._own is not None and not self._own.exists():
            self._own.close()
            self._own = self._current = None
        if self._own is None:
            self._own = LockedDirectory.make(self._directory)
        return self._own

    def _adopt(self) -> None:
        """Take over what dead processes left, as much as one look may, and see how much living ones keep."""
        ours = {directory.path for directory in (*self._adopted, self._own) if directory is not None}
        elsewhere = 0
        others = (path for path in directories(self._directory) if path not in ours)
        for path in islice(others, MAX_LOOKED_AT):
            if len(self._adopted) >= MAX_ADOPTED:
                break
            try:
                directory = LockedDirectory.lock(path)
            except OSError as error:
                if path not in self._left_alone:
                    self._left_alone.add(path)
                    logger.warning("a directory in the spool is left alone: %s: %s", path.name, error.strerror)
                continue
            found = segments(path, directory)
            size = sum(segment.size for segment in found)
            if directory is None:
                elsewhere += size
            elif not found:
                directory.close()
            else:
                if size:
                    logger.warning("%d bytes of events that a process left behind are delivered now", size)
                self._adopted.append(directory)
                self._segments.extend(found)
                self.size += size
        self._elsewhere = elsewhere


def _write_all(descriptor: int, data: bytes) -> None:
    """Write all of it.

    Raises:
        OSError: not all of it was written.
    """
    while data:
        data = data[os.write(descriptor, data) :]

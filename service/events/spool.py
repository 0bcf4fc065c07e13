"""The spool: lines on local disk that wait for the event log.

Below the spool's directory each process has one of its own, which it locks for as long as it lives. One that can be
locked is left over, and its lines are adopted by whoever locks it: two processes never deliver the same one. A
directory holds segments, numbered files of whole lines; one is removed when it has been delivered, so an end in the
middle of a delivery, with or without a crash, repeats one segment at the most.
"""

import errno
import logging
import os
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from service.events.outputs import MAX_LINE, sync_directory
from service.events.spool_files import PROBE, LockedDirectory, directories, event_lines, make_or_check

logger = logging.getLogger("service.spool")

SEGMENT_BYTES = 1 << 17
"""Bytes after which the next segment begins: few, because what is left of one is delivered again after each start."""
MAX_ADOPTED = 20
"""Directories that are held open: a part of the files that connections leave (``service.endpoints.protocol``)."""
FULL = "it holds EVENT_SPOOL_MAX_BYTES"
_TOO_MANY_FILES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}


@dataclass(slots=True)
class Segment:
    """A file of lines."""

    path: Path
    size: int = 0
    """Bytes that wait; what lies behind them was never acknowledged."""


class Spool:
    """Lines that wait, oldest first. Its methods block: they are called from one thread, which is not the event loop's.

    Args:
        directory: on local disk; made with mode 0700 when it is missing.
        max_bytes: what may wait in it, of this process and of dead ones whose lines it has adopted.
        fsync: make each append durable with fdatasync(2).
    """

    def __init__(self, directory: str, max_bytes: int, *, fsync: bool = False) -> None:
        self._directory = Path(directory)
        self._max_bytes = max_bytes
        self._fsync = fsync
        self._own: LockedDirectory | None = None
        self._adopted: list[LockedDirectory] = []
        """Those of dead processes, until their lines are delivered."""
        self._segments: deque[Segment] = deque()
        self._number = 0
        """That of our newest segment."""
        self._writer = -1
        """A descriptor of the last segment, if that is written to."""
        self._delivering = b""
        """What is left of the first segment, if that is being delivered; never the one that is written to."""
        self._error: str | None = "not opened yet"
        self._left_alone: set[Path] = set()
        self.size = 0
        """Bytes of lines that wait."""

    @property
    def problem(self) -> str | None:
        """Why it takes no lines, in one line; None while it does."""
        return FULL if self.size + MAX_LINE > self._max_bytes else self._error

    def look_after(self) -> None:
        """Adopt what dead processes left, and find out whether lines could be written. Never raises OSError."""
        try:
            make_or_check(self._directory)
            # First, because what was left may be what fills the disk.
            self._adopt()
            probe = self._own_directory().path / PROBE
            probe.write_bytes(b" " * MAX_LINE)
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
            if self.size + len(lines) > self._max_bytes:
                raise OSError(errno.EDQUOT, FULL)
            directory = self._own_directory()
            if self._writer < 0:
                self._begin_segment(directory.path)
            left = lines
            while left:
                left = left[os.write(self._writer, left) :]
            if self._fsync:
                os.fdatasync(self._writer)
        except OSError as error:
            self._end_segment()
            self._error = error.strerror
            raise
        self._error = None
        self._segments[-1].size += len(lines)
        self.size += len(lines)
        if self._segments[-1].size >= SEGMENT_BYTES:
            self._end_segment()

    def next_lines(self, limit: int) -> bytes:
        """Return the oldest whole lines not delivered yet, at most ``limit`` bytes of them; empty when nothing waits.

        Raises:
            OSError: they cannot be read now (too many open files).
        """
        while self._segments and not self._delivering:
            self._begin_delivery()
        return self._delivering[: self._delivering.rfind(b"\n", 0, limit) + 1]

    def delivered(self, count: int) -> None:
        """Forget the next bytes of what ``next_lines`` returned: they have been delivered."""
        self._delivering = self._delivering[count:]
        self._forget(count)

    def close(self) -> None:
        """Give up the directories; what still waits is for the next process."""
        self._end_segment()
        for directory in (*self._adopted, self._own):
            if directory is not None:
                directory.close()
        self._adopted.clear()
        self._segments.clear()
        self._own, self._delivering = None, b""

    # --- Segments ---

    def _begin_segment(self, directory: Path) -> None:
        self._number += 1
        path = directory / f"{self._number:08}.jsonl"
        self._writer = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._segments.append(Segment(path))
        if self._fsync:
            sync_directory(directory)

    def _end_segment(self) -> None:
        """Let the next line begin a new segment."""
        if self._writer < 0:
            return
        segment = self._segments[-1]
        with suppress(OSError):  # what cannot be cut off is never read: it lies behind the segment's size
            os.ftruncate(self._writer, segment.size)
        os.close(self._writer)
        self._writer = -1
        if segment.size == 0:
            self._segments.pop()
            with suppress(OSError):
                segment.path.unlink()

    def _begin_delivery(self) -> None:
        """Read the oldest segment. One that cannot be read stays where it is, for a person to look at."""
        if len(self._segments) == 1:
            self._end_segment()
        segment = self._segments[0]
        try:
            self._delivering = event_lines(segment.path, segment.size)
        except OSError as error:
            if error.errno in _TOO_MANY_FILES:
                raise
            problem = error.strerror
            logger.error("events in the spool cannot be read and are set aside: %s: %s", segment.path, problem)  # noqa: TRY400 - one line
            with suppress(OSError):
                segment.path.rename(segment.path.with_suffix(".unreadable"))
            self._forget(segment.size)
            return
        skipped = segment.size - len(self._delivering)
        if skipped:
            logger.warning("%d bytes in the spool were no event line and were skipped", skipped)
        self._forget(skipped)

    def _forget(self, count: int) -> None:
        """Forget so many bytes of the oldest segment, and the segment with its last ones."""
        segment = self._segments[0]
        segment.size -= count
        self.size -= count
        if segment.size == 0:
            self._segments.popleft()
            with suppress(OSError):  # a disk that cannot remove it any more will have it delivered again
                segment.path.unlink()

    # --- Directories ---

    def _own_directory(self) -> LockedDirectory:
        """Return our own directory, made anew where somebody has removed it."""
        make_or_check(self._directory)
        if self._own is not None and not self._own.exists():
            self._end_segment()
            self._own.close()
            self._own = None
        if self._own is None:
            self._own = LockedDirectory.make(self._directory)
        return self._own

    def _adopt(self) -> None:
        """Take over what dead processes left. It stays where it is: a disk that it has filled has no room for more."""
        waiting = {segment.path.parent for segment in self._segments}
        for done in [adopted for adopted in self._adopted if adopted.path not in waiting]:
            self._adopted.remove(done)
            done.close()
        for path in directories(self._directory):
            if len(self._adopted) == MAX_ADOPTED:
                break
            try:
                left = LockedDirectory.lock(path)
            except OSError as error:
                if path not in self._left_alone:
                    self._left_alone.add(path)
                    logger.warning("a directory in the spool is left alone: %s: %s", path.name, error.strerror)
                continue
            if left is None:  # another process holds it, or we do
                continue
            self._end_segment()
            self._adopted.append(left)
            found = [Segment(segment, segment.stat().st_size) for segment in left.segments()]
            if not found:
                self._adopted.pop().close()
            self._segments.extend(found)
            if size := sum(segment.size for segment in found):
                self.size += size
                logger.warning("%d bytes of events that a process left behind are delivered now", size)

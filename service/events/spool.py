"""The spool: lines on local disk that wait for the event log.

Below the spool's directory each process has one of its own, which it holds by a lock for as long as it lives. One that
can be locked is left over, and its lines are adopted by whoever locks it: two processes never deliver the same one. A
directory holds segments, numbered files of whole lines; one is removed when it has been delivered, so a crash in the
middle of a delivery repeats one segment at the most.
"""

import errno
import logging
import os
from contextlib import suppress
from pathlib import Path

from service.events.disk import sync_directory, write_all
from service.events.lines import MAX_LINE
from service.events.segment import PROBE, Claim, Segment, claimable, segments

logger = logging.getLogger("service.spool")

SEGMENT_BYTES = 1 << 20
"""Bytes after which the next segment begins."""
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
        self._adopted: list[Claim] = []
        self._own: Claim | None = None
        self._current: Segment | None = None
        self._begun: Claim | None = None
        """Whose lines were given out and are not all delivered yet."""
        self._given = 0
        self._number = 0
        self._elsewhere = 0
        self._trouble: str | None = "not opened yet"
        self._warned: set[str] = set()
        self.size = 0
        """Bytes of lines that wait, in the directories that this process holds."""

    @property
    def problem(self) -> str | None:
        """Why it takes no lines, in one line; None while it does."""
        if self.size + self._elsewhere + MAX_LINE > self._max_bytes:
            return "it holds EVENT_SPOOL_MAX_BYTES"
        return self._trouble

    def look_after(self) -> None:
        """Adopt what dead processes left, and find out whether lines could be written. Never raises OSError."""
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            # First, because what was left may be what fills the disk.
            self._adopt()
            if self._own is not None and not self._own.is_there():
                self._forget_own()
            own = self._hold_own()
            probe = os.open(own.path / PROBE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            try:
                write_all(probe, b" " * MAX_LINE)
            finally:
                os.close(probe)
                (own.path / PROBE).unlink()
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
            if self._own is not None and not self._own.is_there():
                self._forget_own()
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
            OSError: they cannot be read now (too many open files).
        """
        while (claim := self._front()) is not None:
            segment = claim.segments[0]
            left = segment.left
            try:
                lines = segment.next_lines(limit)
            except OSError as error:
                if error.errno in _TOO_MANY_FILES:
                    raise
                self._set_aside(claim, error)
                continue
            self.size -= left - segment.left
            if lines:
                self._begun, self._given = claim, len(lines)
                return lines
            self._remove_first(claim)
        self.size = 0
        return b""

    def delivered(self, count: int) -> None:
        """Forget the next bytes of what ``next_lines`` gave: they have been delivered."""
        claim = self._begun
        if claim is None:
            return  # their directory was removed meanwhile
        self._given -= count
        if self._given == 0:
            self._begun = None
        segment = claim.segments[0]
        segment.read += count
        self.size -= count
        if segment.left == 0:
            self._remove_first(claim)

    def close(self) -> None:
        """Give up the directories; what still waits in them is for the next process."""
        for claim in filter(None, (*self._adopted, self._own)):
            claim.close()
        self._adopted = []
        self._own = self._current = self._begun = None

    # --- Segments ---

    def _front(self) -> Claim | None:
        """The directory whose lines come next; what was begun goes before what was adopted meanwhile."""
        return next((claim for claim in (self._begun, *self._adopted, self._own) if claim and claim.segments), None)

    def _begin_segment(self) -> Segment:
        own = self._hold_own()
        self._number += 1
        path = own.path / f"{self._number:08}.jsonl"
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._current = Segment(path, descriptor=os.open(path, flags, 0o600))
        own.segments.append(self._current)
        if self._fsync:
            sync_directory(own.path)
        return self._current

    def _end_segment(self) -> None:
        """Let the next line begin a new segment."""
        segment, self._current = self._current, None
        assert segment is not None, "it was being written to"  # noqa: S101 - tells mypy
        segment.close()
        if segment.size == 0:
            self._drop(self._own, segment)
            with suppress(OSError):
                segment.path.unlink()

    def _remove_first(self, claim: Claim) -> None:
        segment = claim.segments[0]
        if segment.passed_over:
            logger.warning("%d bytes in the spool were no event line and were passed over", segment.passed_over)
        with suppress(OSError):  # a disk that cannot remove it any more will have it delivered again
            segment.path.unlink()
        self._drop(claim, segment)

    def _set_aside(self, claim: Claim, error: OSError) -> None:
        """Leave a file that cannot be read where it is, for a person to look at."""
        segment = claim.segments[0]
        logger.error("events cannot be read from the spool and stay in %s: %s", segment.path, error.strerror)
        with suppress(OSError):
            segment.path.rename(segment.path.with_suffix(".unreadable"))
        self.size -= segment.left
        self._drop(claim, segment)

    def _drop(self, claim: Claim | None, segment: Segment) -> None:
        """Forget a segment, and a directory that was adopted for it."""
        assert claim is not None, "it holds the segment"  # noqa: S101 - tells mypy
        claim.segments.remove(segment)
        segment.close()
        if segment is self._current:
            self._current = None
        if claim is not self._own and not claim.segments:
            self._adopted.remove(claim)
            claim.close()

    # --- Directories ---

    def _hold_own(self) -> Claim:
        if self._own is None:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._own = Claim.make(self._directory)
        return self._own

    def _forget_own(self) -> None:
        """Somebody has removed our directory."""
        assert self._own is not None, "it was held"  # noqa: S101 - tells mypy
        gone = sum(segment.left for segment in self._own.segments)
        if gone:
            logger.error("%d bytes of events were removed from the spool by somebody else", gone)
        self.size -= gone
        self._own.close()
        if self._begun is self._own:
            self._begun = None
        self._own = self._current = None

    def _adopt(self) -> None:
        """Take over what dead processes left, and see how much living ones keep."""
        held = {claim.path for claim in (*self._adopted, self._own) if claim is not None}
        elsewhere = 0
        for path in claimable(self._directory):
            if path in held:
                continue
            try:
                claim = Claim.hold(path)
            except OSError as error:
                self._warn_once(path, error.strerror)
                continue
            if claim is None:
                elsewhere += sum(segment.size for segment in segments(path))
            elif not claim.segments:
                claim.close()
            else:
                size = sum(segment.size for segment in claim.segments)
                if size:
                    logger.warning("%d bytes of events that a process left behind are delivered now", size)
                self._adopted.append(claim)
                self.size += size
        self._elsewhere = elsewhere

    def _warn_once(self, path: Path, problem: str | None) -> None:
        if path.name not in self._warned:
            self._warned.add(path.name)
            logger.warning("a directory in the spool is left alone: %s: %s", path.name, problem)

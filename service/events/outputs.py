"""Where event lines go: standard output or a file. An output writes; what to do when it cannot is the log's job."""

import errno
import fcntl
import os
import select
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from service.events.disk import sync_directory
from service.events.lines import LINE_START, MAX_LINE
from service.telemetry.nonblocking import ATOMIC_WRITE, InheritedDescriptor

FILE_WRITE = 1 << 20
"""Bytes written to a file at once; a bound only so that one write cannot take for ever."""
READER_PATIENCE_MS = 50
"""Milliseconds to wait for a reader that is behind, where waiting stops nobody else."""


class Output(Protocol):
    """One place that takes lines."""

    name: str
    max_write: int
    """Bytes to give to one ``write`` at most."""
    may_block: bool
    """Whether ``write`` and ``close`` may take any time, so that they belong into a thread."""

    def fileno(self) -> int:
        """Give the file descriptor."""
        ...

    def write(self, lines: bytes) -> int:
        """Write whole lines. One that was taken in part is finished, taken back or mended by the next ``write``.

        Returns:
            How many bytes of whole lines were taken from the start, at least one line.

        Raises:
            BlockingIOError: no line was taken, because the reader is behind.
            OSError: no line was taken.
        """
        ...

    def close(self) -> None:
        """Close the file descriptor."""
        ...


class _Stream:
    """Whole lines over a stream, such as a socket or a terminal, that may take a part of one: it is finished first.

    Args:
        write: makes one ``write(2)``.
    """

    def __init__(self, write: Callable[[bytes], int]) -> None:
        self._write = write
        self._begun = b""
        self._gone = 0
        """Bytes of the line that was begun which are written already."""

    def write(self, lines: bytes) -> int:
        """Write once; give how many bytes of whole lines were taken, or raise BlockingIOError."""
        first = self._begun if not lines.startswith(self._begun) else b""  # it may be the one that comes again
        data = first + lines
        taken = self._gone + self._write(data[self._gone :])
        whole = data.rfind(b"\n", 0, taken) + 1
        self._begun = data[whole : data.find(b"\n", taken) + 1] if whole < taken else b""
        self._gone = taken - whole
        if whole <= len(first):
            raise BlockingIOError
        return whole - len(first)


class StandardOutput:
    """Standard output that is a pipe, a terminal or a socket (or a file that only its opener may open)."""

    name = "standard output"
    max_write = ATOMIC_WRITE

    def __init__(self, descriptor: int = 1) -> None:
        """Open it.

        Raises:
            OSError: standard output is closed.
        """
        self._output = InheritedDescriptor(descriptor)
        self.may_block = self._output.may_block
        self._stream = _Stream(self._write)

    def fileno(self) -> int:
        """Give the file descriptor."""
        return self._output.fileno()

    def write(self, lines: bytes) -> int:
        """Make one ``write(2)``."""
        return self._stream.write(lines)

    def _write(self, data: bytes) -> int:
        try:
            return self._output.write(data)
        except BlockingIOError:
            if not self.may_block or not _takes_more(self.fileno()):
                raise
            return self._output.write(data)

    def close(self) -> None:
        """Close our description; standard output itself stays open."""
        self._output.close()


class LogFile:
    """A file that is appended to, created when missing, opened anew when it was renamed or removed (logrotate).

    While it writes to a regular file it holds the file's lock (flock(2)), so that several workers, or a process that
    takes over, can tell a line that is torn from one that is being written: a torn one is cut off. Where that is not
    possible (a file that may not be read, cut or locked) the next line begins after a newline of its own.

    Args:
        path: of a file or a FIFO.
        name: what to call it in messages, if not by its path.
        follow: look before each write whether the path still leads to the open file.
        fsync: return from ``write`` only after fdatasync(2).
        must_open: else a file that cannot be opened now is opened by the first ``write`` that can.
    """

    may_block = True

    def __init__(
        self, path: str, *, name: str | None = None, follow: bool = True, fsync: bool = False, must_open: bool = True
    ) -> None:
        """Open it.

        Raises:
            OSError: it cannot be opened for appending.
        """
        self.name = name or path
        self._path = path
        self._follow = follow
        self._fsync = fsync
        self._torn = False
        self._fd = -1
        self._is_file = False
        self._end: int | None = None
        """Where our last write ended, after a whole line."""
        self.max_write = FILE_WRITE
        try:
            self._open()
        except OSError:
            if must_open:
                raise

    def _open(self) -> None:
        flags = os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
        # A file for reading too, so that its end can be looked at; a FIFO never, it would be its own reader.
        mode = os.O_RDWR if _is_or_will_be_a_file(self._path) else os.O_WRONLY
        # 0640: the lines hold user ids.
        try:
            descriptor = os.open(self._path, mode | flags, 0o640)
        except PermissionError:
            mode = os.O_WRONLY
            descriptor = os.open(self._path, mode | flags, 0o640)
        opened = os.fstat(descriptor)
        self._is_file = stat.S_ISREG(opened.st_mode)
        if self._is_file and self._fsync and self._follow:
            try:
                sync_directory(Path(self._path).parent)
            except OSError:
                os.close(descriptor)
                raise
        self._fd, self._opened, self._end = descriptor, opened, None
        self._stream = _Stream(self._write_to_reader)
        self._is_readable = self._is_file and mode == os.O_RDWR
        self.max_write = FILE_WRITE if self._is_file else ATOMIC_WRITE

    def fileno(self) -> int:
        """Give the file descriptor."""
        return self._fd

    def write(self, lines: bytes) -> int:
        """Append lines, in one ``write(2)``.

        Few system calls: after each, this thread has to get the interpreter's lock back from a busy event loop.
        """
        descriptor = self._fd
        # A file that another worker has locked may have been renamed; so nobody waits for it before that is known.
        exclusive = self._is_file and self._lock(fcntl.LOCK_NB)
        try:
            size = (self._followed() if self._follow else os.fstat(descriptor)).st_size
            if not self._is_file:
                return self._stream.write(lines)
            # Else the size is that of before the lock, or the lock that of the file before.
            is_same = exclusive and self._fd == descriptor
            exclusive = is_same or self._lock()
            is_whole = is_same and self._is_whole(size)
            mending = b"" if is_whole else self._mend(cut=exclusive)
            taken = os.write(self._fd, mending + lines) - len(mending)
            whole = lines.rfind(b"\n", 0, taken) + 1
            self._torn = whole < taken
            self._end = size + taken if is_whole and not self._torn else None
            if self._torn and exclusive and self._is_readable:
                self._torn = not self._cut_off(lines[whole:taken])
        finally:
            if exclusive:
                fcntl.flock(self._fd, fcntl.LOCK_UN)
        if whole == 0:
            raise OSError(errno.ENOSPC, "no space for more than a part of a line")
        if self._fsync:
            os.fdatasync(self._fd)
        return whole

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)

    def _followed(self) -> os.stat_result:
        """Open the path anew if it no longer leads to the open file; tell what it leads to."""
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            found = None
        if found is not None and self._fd >= 0 and os.path.samestat(found, self._opened):
            return found
        old = self._fd
        self._open()
        if old >= 0:
            os.close(old)
        self._torn = False
        return self._opened

    def _write_to_reader(self, lines: bytes) -> int:
        """Write to a FIFO or a device."""
        try:
            return os.write(self._fd, lines)
        except BlockingIOError:
            if not _takes_more(self._fd):
                raise
            return os.write(self._fd, lines)

    def _lock(self, how: int = 0) -> bool:
        """Lock the file; tell whether that could be done (some network file systems have no locks).

        Args:
            how: LOCK_NB to wait for nobody.
        """
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | how)
        except OSError:
            return False
        return True

    def _is_whole(self, size: int) -> bool:
        """Tell whether the locked file has this size, in bytes, and ends with a whole line."""
        if size == self._end:
            return True
        # One byte where two were asked for is still the last one; mostly nobody else writes.
        return self._is_readable and size > 0 and os.pread(self._fd, 2, size - 1) == b"\n"

    def _mend(self, *, cut: bool) -> bytes:
        """Give what has to stand between the file's end and the next line; cut off a torn line of ours.

        Args:
            cut: whether a torn line may be cut off.
        """
        if not self._is_readable:
            return b"\n" if self._torn else b""
        size = os.fstat(self._fd).st_size
        if size == 0 or os.pread(self._fd, 1, size - 1) == b"\n":
            return b""
        end = os.pread(self._fd, MAX_LINE, max(0, size - MAX_LINE))
        torn = end[end.rfind(b"\n") + 1 :]
        ours = len(torn) < MAX_LINE and LINE_START.startswith(torn[: len(LINE_START)])
        return b"" if cut and ours and self._cut_off(torn) else b"\n"

    def _cut_off(self, torn: bytes) -> bool:
        """Shorten the file by these bytes, if they are its end; tell whether that was done."""
        keep = os.fstat(self._fd).st_size - len(torn)
        if keep < 0 or os.pread(self._fd, len(torn), keep) != torn:
            return False  # it was cut off already (copytruncate)
        try:
            os.ftruncate(self._fd, keep)
        except OSError:
            return False  # an append-only file, for instance
        return True


def _is_or_will_be_a_file(path: str) -> bool:
    """Ask once only: another process may make the file between two questions."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        return True


def _takes_more(descriptor: int) -> bool:
    """Wait a little for a reader that is behind."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(READER_PATIENCE_MS))


def open_output(event_log: str, *, fsync: bool = False, must_open: bool = True) -> Output:
    """Open what ``EVENT_LOG`` names: ``-`` or a path.

    Raises:
        OSError: it cannot be opened, and must be.
    """
    if event_log != "-":
        return LogFile(event_log, fsync=fsync, must_open=must_open)
    if not stat.S_ISREG(os.fstat(1).st_mode):
        return StandardOutput()
    try:
        file = LogFile("/proc/self/fd/1", name="standard output", follow=False, fsync=fsync)
    except OSError:
        return StandardOutput()  # a file of another user, which a shell has opened for us
    # Who else writes to it, such as the rest of a shell script, shares the position; from now on they append, too.
    fcntl.fcntl(1, fcntl.F_SETFL, fcntl.fcntl(1, fcntl.F_GETFL) | os.O_APPEND)
    return file

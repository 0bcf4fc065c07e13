"""Where event lines go: standard output or a file. An output writes; what to do when it cannot is the log's job."""

import errno
import fcntl
import logging
import os
import select
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from service.telemetry.nonblocking import ATOMIC_WRITE, InheritedDescriptor

logger = logging.getLogger("service.events")

MAX_LINE = ATOMIC_WRITE - 1
"""Bytes of a line with its newline: what a pipe takes whole, less a newline that may have to go before it."""
MAX_FILE_WRITE = 1 << 20
"""Bytes written to a file at once; a bound only so that one write cannot take for ever."""
READER_TIMEOUT_MS = 50
"""Milliseconds to wait for a reader that is behind, where waiting blocks nobody else."""


class Output(Protocol):
    """One place that takes lines."""

    name: str
    max_write: int
    """Bytes to give to one ``write`` at most."""
    may_block: bool
    """Whether ``write`` and ``close`` may take any time and must be called in a thread."""

    def fileno(self) -> int:
        """Return the file descriptor."""
        ...

    def write(self, lines: bytes) -> int:
        """Write whole lines; a line that was taken in part never runs into the next one.

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


def whole_lines(data: bytes, limit: int) -> bytes:
    """Return the whole lines among the first ``limit`` bytes."""
    return data[: data.rfind(b"\n", 0, limit) + 1]


def sync_directory(path: Path) -> None:
    """Make a new directory entry durable, which fsync(2) of the file does not promise.

    Raises:
        OSError: the directory cannot be opened or synced.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Stream:
    """Whole lines over a stream (a socket, a terminal) that may take a part of one: that line is finished first.

    Args:
        write: makes one ``write(2)``.
    """

    def __init__(self, write: Callable[[bytes], int]) -> None:
        self._write = write
        self._begun = b""
        self._gone = 0
        """Bytes of the begun line that are written already."""

    def write(self, lines: bytes) -> int:
        """Write once; return how many bytes of whole lines were taken, or raise BlockingIOError."""
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
        """Return the file descriptor."""
        return self._output.fileno()

    def write(self, lines: bytes) -> int:
        """Make one ``write(2)``."""
        return self._stream.write(lines)

    def _write(self, data: bytes) -> int:
        return _write_patiently(self._output.write, data, self.fileno() if self.may_block else None)

    def close(self) -> None:
        """Close our description; standard output itself stays open."""
        self._output.close()


class LogFile:
    """A file that is appended to, created when missing, opened anew when it was renamed or removed (logrotate).

    It only ever grows, because somebody may be following it. A line that was torn (a full disk, a killed process) stays
    as it is, and the next write begins with a newline; the log writes the torn event again, whole.

    Args:
        path: of a file or a FIFO.
        name: what to call it in messages, if not by its path.
        follow: look before each write whether the path still leads to the open file.
        fsync: return from ``write`` only after fdatasync(2).
    """

    may_block = True

    def __init__(self, path: str, *, name: str | None = None, follow: bool = True, fsync: bool = False) -> None:
        """Open it.

        Raises:
            OSError: it cannot be opened for appending.
        """
        self.name = name or path
        self.max_write = MAX_FILE_WRITE
        self._path = path
        self._follow = follow
        self._fsync = fsync
        self._fd = -1
        self._open()

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
        is_file = stat.S_ISREG(opened.st_mode)
        if is_file and self._fsync and self._follow:
            try:
                sync_directory(Path(self._path).parent)
            except OSError:
                os.close(descriptor)
                raise
        if is_file and self._follow and opened.st_uid not in {os.geteuid(), 0}:
            logger.warning("%s belongs to another user, who can change what is in it", self.name)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._opened = descriptor, opened
        self._stream = None if is_file else _Stream(self._write_to_reader)
        self.max_write = MAX_FILE_WRITE if is_file else ATOMIC_WRITE
        self._is_readable = mode == os.O_RDWR
        self._end: int | None = None
        """Where our last write ended, if with a whole line."""
        self._torn = False
        """Our last write took only a part of a line."""

    def fileno(self) -> int:
        """Return the file descriptor."""
        return self._fd

    def write(self, lines: bytes) -> int:
        """Append lines, in one ``write(2)``.

        Few system calls: after each, this thread has to get the interpreter's lock back from a busy event loop.
        """
        try:
            found = os.stat(self._path) if self._follow else self._opened
        except FileNotFoundError:
            found = None
        if found is None or not os.path.samestat(found, self._opened):
            self._open()
        size = os.fstat(self._fd).st_size
        if self._stream is not None:
            return self._stream.write(lines)
        newline = b"" if size == self._end or self._ends_whole(size) else b"\n"
        taken = os.write(self._fd, newline + lines) - len(newline)
        whole = lines.rfind(b"\n", 0, max(taken, 0)) + 1
        self._torn = whole != taken  # -1: not even the newline was taken
        self._end = None if self._torn else size + len(newline) + taken
        if whole == 0:
            raise OSError(errno.ENOSPC, "no space for more than a part of a line")
        if self._fsync:
            os.fdatasync(self._fd)
        return whole

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _ends_whole(self, size: int) -> bool:
        """Tell whether the file, of this size, ends with a whole line. It is read only where somebody else wrote."""
        if size == 0:
            return True
        return os.pread(self._fd, 1, size - 1) == b"\n" if self._is_readable else not self._torn

    def _write_to_reader(self, lines: bytes) -> int:
        """Write to a FIFO or a device."""
        return _write_patiently(lambda data: os.write(self._fd, data), lines, self._fd)


def _is_or_will_be_a_file(path: str) -> bool:
    """Ask once only: another process may make the file between two questions."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        return True


def _write_patiently(write: Callable[[bytes], int], data: bytes, descriptor: int | None) -> int:
    """Write once; where waiting is allowed, so where there is a descriptor, give a reader that is behind a moment."""
    try:
        return write(data)
    except BlockingIOError:
        if descriptor is None:
            raise
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        if not poll.poll(READER_TIMEOUT_MS):
            raise
    return write(data)


def open_output(event_log: str, *, fsync: bool = False) -> Output:
    """Open what ``EVENT_LOG`` names: ``-`` or a path.

    Raises:
        OSError: it cannot be opened.
    """
    if event_log != "-":
        return LogFile(event_log, fsync=fsync)
    if not stat.S_ISREG(os.fstat(1).st_mode):
        return StandardOutput()
    try:
        file = LogFile("/proc/self/fd/1", name="standard output", follow=False, fsync=fsync)
    except OSError:
        return StandardOutput()  # a file of another user, which a shell has opened for us
    # Who else writes to it, such as the rest of a shell script, shares the position; from now on they append, too.
    fcntl.fcntl(1, fcntl.F_SETFL, fcntl.fcntl(1, fcntl.F_GETFL) | os.O_APPEND)
    return file

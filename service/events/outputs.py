"""Where event lines go: standard output or a file. An output writes; what to do when it cannot is the log's job."""

import errno
import fcntl
import logging
import os
import select
import socket
import stat
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from service.telemetry.diagnostics import ATOMIC_WRITE

logger = logging.getLogger("service.events")

MAX_LINE = ATOMIC_WRITE - 1
"""Bytes of a line with its newline: what a pipe takes whole, less a newline that may have to go before it."""
MAX_FILE_WRITE = 1 << 20
"""Bytes written to a file at once; a bound only so that one write cannot take for ever."""
STANDARD_OUTPUT = "/proc/self/fd/1"


class Output(Protocol):
    """One place that takes lines.

    ``write`` is given at most ``max_write`` bytes of whole lines, and returns how many bytes of whole lines were taken
    from the start, at least one line; a line that was taken in part never runs into the next one. Where none was taken
    it raises OSError, and BlockingIOError where the reader is still behind after ``timeout`` seconds. With a timeout,
    or if it ``may_block``, it must be called in a thread. ``close`` leaves standard output itself open.
    """

    name: str
    max_write: int
    may_block: bool

    def write(self, lines: bytes, timeout: float = 0.0) -> int: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102


def sync_directory(path: Path) -> None:
    """Make a new directory entry durable, which fsync(2) of the file does not promise."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Stream:
    """A pipe, a FIFO, a terminal or a socket. It may take a part of a line: that line is finished before another one.

    ``O_NONBLOCK`` on a descriptor would be seen by every process that shares it. So it is opened anew where the system
    allows it; a socket is sent to with ``MSG_DONTWAIT``; what is left (a pipe of another user, a file) may block.

    Args:
        descriptor: open for writing; it may be closed afterwards.
        name: what to call it in messages.
    """

    max_write = ATOMIC_WRITE

    def __init__(self, descriptor: int, name: str) -> None:
        self.name = name
        self._fd, self.may_block = os.dup(descriptor), True
        self._socket: socket.socket | None = None
        kind = os.fstat(descriptor).st_mode
        if stat.S_ISSOCK(kind):
            self._socket, self.may_block = socket.socket(fileno=self._fd), False
        elif not stat.S_ISREG(kind):  # opened anew, a file would have another position
            with suppress(OSError):
                anew = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY)
                os.close(self._fd)
                self._fd, self.may_block = anew, False
        self._room = select.poll()
        self._room.register(self._fd, select.POLLOUT)
        self._begun = b""
        self._gone = 0
        """Bytes of the begun line that are written already."""

    def write(self, lines: bytes, timeout: float = 0.0) -> int:
        """Write once; return how many bytes of whole lines were taken, or raise BlockingIOError."""
        if timeout and not self._room.poll(1000 * timeout):
            raise BlockingIOError
        first = self._begun if not lines.startswith(self._begun) else b""  # it may be the one that comes again
        data = first + lines
        left = data[self._gone :]
        sent = os.write(self._fd, left) if self._socket is None else self._socket.send(left, socket.MSG_DONTWAIT)
        taken = self._gone + sent
        whole = data.rfind(b"\n", 0, taken) + 1
        self._begun = data[whole : data.find(b"\n", taken) + 1] if whole < taken else b""
        self._gone = taken - whole
        if whole <= len(first):
            raise BlockingIOError
        return whole - len(first)

    def close(self) -> None:
        """Close our own descriptor; the one that was given stays open."""
        if self._socket is None:
            os.close(self._fd)
        else:
            self._socket.close()


class LogFile:
    """A file that is appended to, created when missing, opened anew when it was renamed or removed (logrotate).

    It only ever grows, because somebody may be following it. A line that was torn (a full disk, a killed process) stays
    as it is, and the next write begins with a newline; the log writes the torn event again, whole.

    Args:
        path: of the file.
        name: what to call it in messages.
        fsync: return from ``write`` only after fdatasync(2).
    """

    max_write = MAX_FILE_WRITE
    may_block = True

    def __init__(self, path: str, name: str, *, fsync: bool = False) -> None:
        self.name = name
        self._path = path
        self._fsync = fsync
        self._fd = -1
        self._open()

    def _open(self) -> None:
        # For reading too, so that its end can be looked at; 0640, because the lines hold user ids.
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
        descriptor = os.open(self._path, flags, 0o640)
        try:
            opened = os.fstat(descriptor)
            if not stat.S_ISREG(opened.st_mode):
                raise OSError(errno.EINVAL, "it is no file any more")
            if self._fsync and self._path != STANDARD_OUTPUT:
                sync_directory(Path(self._path).parent)
        except OSError:
            os.close(descriptor)
            raise
        if opened.st_uid not in {os.geteuid(), 0}:
            logger.warning("%s belongs to another user, who can change what is in it", self.name)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._opened = descriptor, opened
        self._end: int | None = None
        """Where our last write ended, if with a whole line."""

    def write(self, lines: bytes, timeout: float = 0.0) -> int:  # noqa: ARG002 - nobody reads, so nobody is behind
        """Append lines, in one ``write(2)``.

        Few system calls: after each, this thread has to get the interpreter's lock back from a busy event loop.
        """
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            there = None
        if there is None or not os.path.samestat(there, self._opened):
            self._open()
            there = self._opened
        size = there.st_size
        # The end is read only where somebody else wrote.
        ends_whole = size in {0, self._end} or os.pread(self._fd, 1, size - 1) == b"\n"
        newline = b"" if ends_whole else b"\n"
        taken = os.write(self._fd, newline + lines) - len(newline)
        whole = lines.rfind(b"\n", 0, max(taken, 0)) + 1
        self._end = size + len(newline) + taken if whole == taken else None  # -1: not even the newline was taken
        if whole == 0:
            raise OSError(errno.ENOSPC, "no space for more than a part of a line")
        if self._fsync:
            os.fdatasync(self._fd)
        return whole

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def open_output(event_log: str, *, fsync: bool = False) -> Output:
    """Open what ``EVENT_LOG`` names: ``-`` or a path.

    Raises:
        OSError: it cannot be opened.
    """
    if event_log == "-":
        return _open_standard_output(fsync=fsync)
    path = Path(event_log)
    if path.is_file() or not path.exists():
        return LogFile(event_log, event_log, fsync=fsync)
    descriptor = os.open(event_log, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        return Stream(descriptor, event_log)
    finally:
        os.close(descriptor)


def _open_standard_output(*, fsync: bool) -> Output:
    name = "standard output"
    if not stat.S_ISREG(os.fstat(1).st_mode):
        return Stream(1, name)
    try:
        file = LogFile(STANDARD_OUTPUT, name, fsync=fsync)
    except OSError:
        return Stream(1, name)  # a file of another user, which a shell has opened for us
    # Who else writes to it, such as the rest of a shell script, shares the position; from now on they append, too.
    fcntl.fcntl(1, fcntl.F_SETFL, fcntl.fcntl(1, fcntl.F_GETFL) | os.O_APPEND)
    return file

"""Where event lines go: standard output or a file. An output writes; what to do when it cannot is the log's job."""

import os
import stat
from typing import Protocol

ATOMIC_PIPE_WRITE = 4096
"""Bytes that a pipe takes whole or not at all, also from several writers: Linux's ``PIPE_BUF`` (pipe(7))."""
FILE_WRITE = 1 << 20
"""Bytes written to a file at once; a bound only so that one write cannot take for ever."""


class Output(Protocol):
    """One place that takes lines."""

    name: str
    max_write: int
    """Bytes to give to one ``write`` at most."""

    def fileno(self) -> int:
        """Give the file descriptor."""
        ...

    def write(self, lines: bytes) -> int:
        """Make one ``write(2)``.

        Returns:
            How many bytes were taken; fewer than given is possible.

        Raises:
            BlockingIOError: nothing was taken, because the reader is behind.
            OSError: nothing was taken.
        """
        ...

    def prepare(self) -> bool:
        """Get ready for the next batch; tell whether it goes to a new file.

        Raises:
            OSError: there is nothing to write to.
        """
        ...

    def close(self) -> None:
        """Close the file descriptor."""
        ...


class StandardOutput:
    """Standard output, through an open file description of our own where the system allows it.

    Our own, because ``O_NONBLOCK`` on the inherited one would be seen by every process that shares it. Without one
    (a socket, a foreign pipe, no /proc) writes may block while the reader is behind.
    """

    name = "standard output"

    def __init__(self, descriptor: int = 1) -> None:
        """Open it.

        Raises:
            OSError: standard output is closed.
        """
        os.fstat(descriptor)
        try:
            self._fd = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError:
            self._fd = os.dup(descriptor)
        self.max_write = _max_write(self._fd)

    def fileno(self) -> int:
        """Give the file descriptor."""
        return self._fd

    def write(self, lines: bytes) -> int:
        """Make one ``write(2)``."""
        return os.write(self._fd, lines)

    def prepare(self) -> bool:
        """Nothing to prepare: standard output stays what it is."""
        return False

    def close(self) -> None:
        """Close our description; standard output itself stays open."""
        os.close(self._fd)


class LogFile:
    """A file that is appended to, created when missing, opened anew when it was renamed or removed (logrotate)."""

    def __init__(self, path: str) -> None:
        """Open it.

        Raises:
            OSError: it cannot be opened for appending.
        """
        self.name = path
        self._fd = self._open()

    def _open(self) -> int:
        # Not for everybody's eyes: the lines hold user ids.
        descriptor = os.open(self.name, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o640)
        self.max_write = _max_write(descriptor)
        return descriptor

    def fileno(self) -> int:
        """Give the file descriptor."""
        return self._fd

    def write(self, lines: bytes) -> int:
        """Make one ``write(2)``."""
        return os.write(self._fd, lines)

    def prepare(self) -> bool:
        """Open the file anew if its name no longer leads to what is open."""
        try:
            moved = not os.path.samestat(os.stat(self.name), os.fstat(self._fd))
        except FileNotFoundError:
            moved = True
        if moved:
            new = self._open()
            os.close(self._fd)
            self._fd = new
        return moved

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def _max_write(descriptor: int) -> int:
    return FILE_WRITE if stat.S_ISREG(os.fstat(descriptor).st_mode) else ATOMIC_PIPE_WRITE


def open_output(event_log: str) -> Output:
    """Open what ``EVENT_LOG`` names: ``-`` or a path.

    Raises:
        OSError: it cannot be opened.
    """
    return StandardOutput() if event_log == "-" else LogFile(event_log)

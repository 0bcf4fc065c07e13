"""Where event lines go: standard output or a file. An output writes; what to do when it cannot is the log's job."""

import os
import stat
from pathlib import Path
from typing import Protocol

from service.nonblocking import ATOMIC_WRITE, InheritedDescriptor

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

    def prepare(self) -> bytes:
        r"""Get ready for the next write.

        Returns:
            What has to go before the next line: nothing, or ``\n`` where the last line is torn. Its rest never comes;
            the line was refused, or is written again as a whole.

        Raises:
            OSError: there is nothing to write to.
        """
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

    def close(self) -> None:
        """Close the file descriptor."""
        ...


class StandardOutput:
    """Standard output, whatever it is: a pipe, a terminal, a socket, a file that a shell opened."""

    name = "standard output"

    def __init__(self, descriptor: int = 1) -> None:
        """Open it.

        Raises:
            OSError: standard output is closed.
        """
        self._output = InheritedDescriptor(descriptor)
        self.max_write = FILE_WRITE if self._output.is_file else ATOMIC_WRITE
        self._torn = False

    def fileno(self) -> int:
        """Give the file descriptor."""
        return self._output.fileno()

    def prepare(self) -> bytes:
        """Mend the last line if it is torn."""
        return b"\n" if self._torn else b""

    def write(self, lines: bytes) -> int:
        """Make one ``write(2)``."""
        written = self._output.write(lines)
        self._torn = not lines[:written].endswith(b"\n")
        return written

    def close(self) -> None:
        """Close our description; standard output itself stays open."""
        self._output.close()


class LogFile:
    """A file that is appended to, created when missing, opened anew when it was renamed or removed (logrotate)."""

    def __init__(self, path: str) -> None:
        """Open it.

        Raises:
            OSError: it cannot be opened for appending.
        """
        self.name = path
        self._fd, self._is_readable, self.max_write = self._open()
        self._look = True

    def _open(self) -> tuple[int, bool, int]:
        """Give a new descriptor, whether its end can be looked at, and how much to write at once."""
        flags = os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
        path = Path(self.name)
        # A file for reading too, so that its end can be looked at; a FIFO never, it would be its own reader.
        mode = os.O_RDWR if path.is_file() or not path.exists() else os.O_WRONLY
        # 0640: the lines hold user ids.
        try:
            descriptor = os.open(self.name, mode | flags, 0o640)
        except PermissionError:
            mode = os.O_WRONLY
            descriptor = os.open(self.name, mode | flags, 0o640)
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        return descriptor, is_file and mode == os.O_RDWR, FILE_WRITE if is_file else ATOMIC_WRITE

    def fileno(self) -> int:
        """Give the file descriptor."""
        return self._fd

    def prepare(self) -> bytes:
        """Open the file anew if its name no longer leads to what is open; mend its last line if it is torn."""
        try:
            moved = not os.path.samestat(os.stat(self.name), os.fstat(self._fd))
        except FileNotFoundError:
            moved = True
        if moved:
            old, (self._fd, self._is_readable, self.max_write) = self._fd, self._open()
            os.close(old)
            self._look = True
        # Not before each write: while another worker is in the middle of one, its file seems to end torn.
        return b"\n" if self._look and self._is_readable and _ends_torn(self._fd) else b""

    def write(self, lines: bytes) -> int:
        """Make one ``write(2)``."""
        self._look = True
        written = os.write(self._fd, lines)
        self._look = written < len(lines)
        return written

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def _ends_torn(descriptor: int) -> bool:
    """Look whether a file ends in the middle of a line: one of ours, or of a process before us."""
    size = os.fstat(descriptor).st_size
    return size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"


def open_output(event_log: str) -> Output:
    """Open what ``EVENT_LOG`` names: ``-`` or a path.

    Raises:
        OSError: it cannot be opened.
    """
    return StandardOutput() if event_log == "-" else LogFile(event_log)

"""Where event lines go: standard output or a file. An output writes; what to do when it cannot is the log's job."""

import os
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
        torn = _ends_torn(self.fileno()) if self._output.is_file else self._torn
        return b"\n" if torn else b""

    def write(self, lines: bytes) -> int:
        """Make one ``write(2)``."""
        written = self._output.write(lines)
        self._torn = written < len(lines)
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
        self._fd = self._open()

    def _open(self) -> int:
        flags = os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
        path = Path(self.name)
        is_file = path.is_file() or not path.exists()
        self.max_write = FILE_WRITE if is_file else ATOMIC_WRITE
        # A file for reading too, so that its end can be looked at; a FIFO never, it would be its own reader.
        self._can_look = is_file
        # 0640: the lines hold user ids.
        try:
            return os.open(self.name, (os.O_RDWR if is_file else os.O_WRONLY) | flags, 0o640)
        except PermissionError:
            self._can_look = False
            return os.open(self.name, os.O_WRONLY | flags, 0o640)

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
            new = self._open()
            os.close(self._fd)
            self._fd = new
        return b"\n" if self._can_look and _ends_torn(self._fd) else b""

    def write(self, lines: bytes) -> int:
        """Make one ``write(2)``."""
        return os.write(self._fd, lines)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def _ends_torn(descriptor: int) -> bool:
    """Look whether a file ends in the middle of a line: ours, another worker's, or that of a process before us."""
    size = os.fstat(descriptor).st_size
    return size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"


def open_output(event_log: str) -> Output:
    """Open what ``EVENT_LOG`` names: ``-`` or a path.

    Raises:
        OSError: it cannot be opened.
    """
    return StandardOutput() if event_log == "-" else LogFile(event_log)

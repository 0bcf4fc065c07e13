"""Outputs that do what a kernel does rarely, and a pipe whose reader a test is."""

import os
import threading
from collections.abc import Iterable
from contextlib import suppress

from service.events.outputs import Stream
from tests.support.processes import TIMEOUT


class FakeOutput:
    """Takes what it is told to take.

    Args:
        takes: for each write in turn how many bytes it takes at most, or what it raises; after that it takes all.
        may_block: whether it is to be called in a thread.
    """

    name = "fake"

    def __init__(
        self, takes: Iterable[int | Exception] = (), *, may_block: bool = False, max_write: int = 1 << 20
    ) -> None:
        self.max_write = max_write
        self.may_block = may_block
        self.writes: list[bytes] = []
        self.content = b""
        self.closed = False
        self.refuses: Exception | None = None
        """What each write raises for as long as it is set."""
        self.threads: set[str] = set()
        self._takes = iter(takes)

    def write(self, lines: bytes, timeout: float = 0.0) -> int:  # noqa: ARG002 - it does at once what it does
        self.writes.append(lines)
        self.threads.add(threading.current_thread().name)
        takes = self.refuses or next(self._takes, len(lines))
        if isinstance(takes, Exception):
            raise takes
        whole = lines.rfind(b"\n", 0, takes) + 1
        if whole == 0:
            raise OSError("no space for more than a part of a line")
        self.content += lines[:whole]
        return whole

    def close(self) -> None:
        self.closed = True


class HangingOutput(FakeOutput):
    """Hangs in a write, as a file on a sick disk does, until it is let go.

    Args:
        takes: see ``FakeOutput``; what a write that hung does in the end.
    """

    def __init__(self, takes: Iterable[int | Exception] = ()) -> None:
        super().__init__(takes, may_block=True)
        self._free = threading.Event()
        self.let_go = self._free.set

    def write(self, lines: bytes, timeout: float = 0.0) -> int:
        assert self._free.wait(TIMEOUT)
        return super().write(lines, timeout)


class Pipe:
    """A pipe with an output at its writing end."""

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe()
        self.output = Stream(self._writer, "a pipe")
        os.set_blocking(self._writer, False)
        os.set_blocking(self.reader, False)

    def fill(self) -> bytes:
        """Stall it: write until it takes no more; give what has been written."""
        line, filling = b"#" * 4095 + b"\n", b""
        with suppress(BlockingIOError):
            while os.write(self._writer, line):
                filling += line
        return filling

    def read(self) -> bytes:
        """Read what is in it."""
        content = b""
        with suppress(BlockingIOError):
            while some := os.read(self.reader, 1 << 20):
                content += some
        return content

    def close(self) -> None:
        os.close(self.reader)
        os.close(self._writer)

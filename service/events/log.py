"""The event log: takes lines, hands them to the kernel in order, and tells of each whether the kernel took it."""

import asyncio
import errno
import logging
import os
from collections import deque
from dataclasses import dataclass

from service.diagnostics import where
from service.events.outputs import Output

logger = logging.getLogger("service.events")

MAX_LINE = 4096
"""Bytes of a line with its newline: what a pipe takes whole or not at all."""
PATIENCE = 0.1
"""Seconds that a line waits for a reader that is behind."""


@dataclass(slots=True)
class _Waiting:
    line: bytes
    taken: asyncio.Future[bool]
    deadline: float
    written: int = 0
    """Bytes of the line that a short write has taken; only the first in the queue can have any."""


def _tell(whoever: asyncio.Future[bool], *, taken: bool) -> None:
    # A request that was cancelled has cancelled what it waited for; its line is written all the same.
    if not whoever.done():
        whoever.set_result(taken)


class EventLog:
    """An append-only log over one output. Lines leave in the order in which they were appended.

    All lines appended in the same turn of the event loop go out in one ``write(2)``, cut at line ends so that it never
    exceeds what the output takes atomically.
    """

    def __init__(self, output: Output) -> None:
        """Take over the output; ``close`` closes it. Needs a running event loop."""
        self._output = output
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Waiting] = deque()
        self._idle = asyncio.Event()
        self._idle.set()
        self._timer: asyncio.TimerHandle
        self._owed = b""
        self._failing = False
        self.lost = 0
        """Lines that were not taken."""

    def append(self, line: bytes) -> asyncio.Future[bool]:
        """Append one line.

        Args:
            line: UTF-8 with its newline at the end, at most 4,096 bytes.

        Returns:
            True once ``write(2)`` has taken the whole line, False if it was not taken within 100 ms.

        Raises:
            ValueError: this is not one line of at most 4,096 bytes.
        """
        if len(line) > MAX_LINE or not line or line.find(b"\n") != len(line) - 1:
            raise ValueError(f"not one line of at most {MAX_LINE} bytes")
        taken = self._loop.create_future()
        self._waiting.append(_Waiting(line, taken, self._loop.time() + PATIENCE))
        if self._idle.is_set():
            self._idle.clear()
            self._loop.call_soon(self._flush)
        return taken

    async def close(self) -> None:
        """Wait until every line is decided, at most 100 ms, and close the output."""
        await self._idle.wait()
        self._output.close()

    def _flush(self) -> None:
        """Write until nothing waits or the output takes no more."""
        try:
            while self._waiting:
                if self._output.prepare():
                    # A torn line stays behind in the old file; the new one begins with a whole line.
                    self._owed, self._waiting[0].written = b"", 0
                if self._owed:
                    self._owed = self._owed[self._write(self._owed) :]
                else:
                    self._advance(self._write(self._next_lines()))
        except BlockingIOError:
            self._wait_for_reader()
            return
        except Exception as error:  # noqa: BLE001 - whatever breaks, nobody may wait for ever
            known = isinstance(error, OSError) and error.errno
            self._refuse(len(self._waiting), os.strerror(known) if known else where(error))
        self._idle.set()

    def _write(self, lines: bytes) -> int:
        written = self._output.write(lines)
        if written == 0:
            raise OSError(errno.EIO, "nothing was written")
        return written

    def _next_lines(self) -> bytes:
        """Join as many waiting lines as fit into one write; at least one."""
        room = self._output.max_write
        lines: list[bytes] = []
        for waiting in self._waiting:
            rest = waiting.line[waiting.written :]
            room -= len(rest)
            if room < 0:
                break
            lines.append(rest)
        return b"".join(lines)

    def _advance(self, written: int) -> None:
        """Tell the lines that were taken whole; remember how far the one after them got."""
        while written:
            waiting = self._waiting[0]
            missing = len(waiting.line) - waiting.written
            if written < missing:
                waiting.written += written
                return
            written -= missing
            self._waiting.popleft()
            _tell(waiting.taken, taken=True)
        if self._failing:
            self._failing = False
            logger.warning("the event log (%s) takes lines again; %d were lost so far", self._output.name, self.lost)

    def _refuse(self, count: int, problem: str) -> None:
        """Give up the first ``count`` lines. The end of a torn one stays owed, so that no line is glued to it."""
        for _ in range(count):
            waiting = self._waiting.popleft()
            if waiting.written:
                self._owed = waiting.line[waiting.written :]
            _tell(waiting.taken, taken=False)
        self.lost += count
        if not self._failing:
            self._failing = True
            logger.error("the event log (%s) takes no lines: %s; events are being lost", self._output.name, problem)

    def _wait_for_reader(self) -> None:
        self._loop.add_writer(self._output.fileno(), self._resume)
        self._timer = self._loop.call_at(self._waiting[0].deadline, self._give_up)

    def _resume(self) -> None:
        """Go on, now that the reader has made room or every line has been given up."""
        self._loop.remove_writer(self._output.fileno())
        self._timer.cancel()
        self._flush()

    def _give_up(self) -> None:
        """Refuse the lines whose time is over."""
        now = self._loop.time()
        self._refuse(sum(waiting.deadline <= now for waiting in self._waiting), "its reader is behind")
        if self._waiting:
            self._timer = self._loop.call_at(self._waiting[0].deadline, self._give_up)
        else:
            self._resume()

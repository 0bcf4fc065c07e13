"""The event log: takes lines, hands them to the kernel in order, and tells of each whether the kernel took it."""

import asyncio
import errno
import logging
import os
from collections import deque
from dataclasses import dataclass

from service.events.outputs import Output

logger = logging.getLogger("service.events")

MAX_LINE = 4096
"""Bytes of a line with its newline: what a pipe takes whole or not at all."""
PATIENCE = 0.1
"""Seconds that a line waits for a reader that is behind."""


@dataclass(slots=True)
class _Waiting:
    rest: bytes
    """What has not been written yet: the line, or its end after a short write."""
    taken: asyncio.Future[bool]
    deadline: float
    begun: bool = False


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
        self._flushing = False
        self._timer: asyncio.TimerHandle | None = None
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
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)
        return taken

    async def close(self) -> None:
        """Wait until every line is decided, at most 100 ms, and close the output."""
        while self._waiting:
            await asyncio.wait({self._waiting[-1].taken})
        self._output.close()

    def _flush(self) -> None:
        """Write until nothing waits or the output takes no more."""
        try:
            while self._waiting:
                if self._output.prepare():
                    self._owed = b""
                if self._owed:
                    self._owed = self._owed[self._write(self._owed) :]
                else:
                    self._advance(self._write(self._next_lines()))
        except BlockingIOError:
            self._wait_for_reader()
            return
        except OSError as error:
            self._refuse(len(self._waiting), os.strerror(error.errno or errno.EIO))
        self._flushing = False

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
            room -= len(waiting.rest)
            if room < 0:
                break
            lines.append(waiting.rest)
        return b"".join(lines)

    def _advance(self, written: int) -> None:
        """Tell the lines that were taken whole; remember how far the one after them got."""
        while written:
            waiting = self._waiting[0]
            if written < len(waiting.rest):
                waiting.rest = waiting.rest[written:]
                waiting.begun = True
                return
            written -= len(waiting.rest)
            self._waiting.popleft()
            waiting.taken.set_result(True)
        if self._failing:
            self._failing = False
            logger.warning("the event log (%s) takes lines again; %d were lost so far", self._output.name, self.lost)

    def _refuse(self, count: int, problem: str) -> None:
        """Give up the first ``count`` lines. The end of a torn one stays owed, so that no line is glued to it."""
        for _ in range(count):
            waiting = self._waiting.popleft()
            if waiting.begun:
                self._owed = waiting.rest
            waiting.taken.set_result(False)
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
        if self._timer is not None:
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

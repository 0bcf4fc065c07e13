"""The event log: takes lines, hands them to the kernel in order, and tells of each whether the kernel took it."""

import asyncio
import errno
import logging
from collections import deque
from dataclasses import dataclass

from service.diagnostics import where
from service.events.outputs import Output
from service.nonblocking import ATOMIC_WRITE

logger = logging.getLogger("service.events")

MAX_LINE = ATOMIC_WRITE - 1
"""Bytes of a line with its newline: what a pipe takes whole, less the newline that mends a torn line before it."""
PATIENCE = 0.1
"""Seconds that a line waits for a reader that is behind."""


@dataclass(slots=True)
class _Waiting:
    line: bytes
    taken: asyncio.Future[bool]
    deadline: float


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
        self._failing = False
        self.lost = 0
        """Lines that were not taken."""

    def append(self, line: bytes) -> asyncio.Future[bool]:
        """Append one line.

        Args:
            line: UTF-8 with its newline at the end, at most 4,095 bytes.

        Returns:
            True once ``write(2)`` has taken the whole line, False if it was not taken within 100 ms.

        Raises:
            ValueError: this is not one line of at most 4,095 bytes.
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
                mending = self._output.prepare()
                written = self._output.write(mending + self._next_lines(self._output.max_write - len(mending)))
                self._advance(written - len(mending))
        except BlockingIOError:
            self._wait_for_reader()
            return
        except Exception as error:  # noqa: BLE001 - whatever breaks, nobody may wait for ever
            problem = error.strerror if isinstance(error, OSError) else None
            self._refuse(len(self._waiting), problem or where(error))
        self._idle.set()

    def _next_lines(self, room: int) -> bytes:
        """Join the waiting lines that fit into so many bytes."""
        lines: list[bytes] = []
        for waiting in self._waiting:
            room -= len(waiting.line)
            if room < 0:
                break
            lines.append(waiting.line)
        return b"".join(lines)

    def _advance(self, written: int) -> None:
        """Tell the lines that were taken whole. One that was torn stays first, to be written again as a whole.

        Raises:
            OSError: not even one line was taken.
        """
        if written < len(self._waiting[0].line):
            raise OSError(errno.EIO, "only a part of a line was taken")
        while self._waiting and written >= len(self._waiting[0].line):
            waiting = self._waiting.popleft()
            written -= len(waiting.line)
            _tell(waiting.taken, taken=True)
        if self._failing:
            self._failing = False
            logger.warning("the event log (%s) takes lines again; %d were lost so far", self._output.name, self.lost)

    def _refuse(self, count: int, problem: str) -> None:
        """Give up the first ``count`` lines."""
        for _ in range(count):
            _tell(self._waiting.popleft().taken, taken=False)
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
        """Refuse the lines whose time is over: at least the first, for which the timer was set."""
        now = max(self._loop.time(), self._waiting[0].deadline)
        self._refuse(sum(waiting.deadline <= now for waiting in self._waiting), "its reader is behind")
        self._resume()

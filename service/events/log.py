"""The event log: takes lines, hands them to the kernel, and tells of each whether it is recorded."""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, NoReturn

from service.events.call_thread import CallThread
from service.events.outputs import MAX_LINE, Output
from service.events.spool import Spool
from service.events.types import now
from service.telemetry.diagnostics import LogThrottle, where
from service.telemetry.metrics import Metrics

logger = logging.getLogger("service.events")

APPEND_BYTES = 1 << 17
"""Bytes written to the spool at once."""
MAX_WAITING = 10_000
"""Lines kept in memory at the most while the spool's disk does not answer."""
MIN_WRITE_TIME = 0.01
"""Seconds that a write to the output gets in any case, also when the event loop itself was held up before it."""
POLL = 0.005
"""Seconds between two looks, at shutdown, whether there is still something to write."""
CLOSE_TIMEOUT = 0.25
"""Seconds to wait for a disk at shutdown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long what may take, in seconds."""

    answer: float = 0.1  # until a line's caller is answered, whatever the output and the spool do
    output: float = 0.075  # of these for the output; the rest is for the spool
    retry: float = 0.5  # between two attempts to deliver to an output that fails
    look: float = 5.0  # between two looks at the spool: can it be written to, did another process leave lines in it
    hang: float = 1.0  # until the spool's disk counts as hanging
    drain: float = 1.0  # to deliver at shutdown what waits in the spool; the rest is for the next process


class Line(NamedTuple):
    """A line, and whoever waits to hear whether it is recorded: until ``deadline``, on the event loop's clock."""

    data: bytes
    recorded: asyncio.Future[bool]
    deadline: float

    def answer(self, *, recorded: bool) -> None:
        """Answer the caller, once. A request that was cancelled has cancelled its future; its line is written."""
        if not self.recorded.done():
            self.recorded.set_result(recorded)


class EventLog:
    """An append-only log over one output, with a spool behind it. Lines leave in the order in which they came.

    A line is recorded when ``write(2)`` has taken it whole, for the output or for the spool. Nothing in the event loop
    waits for either: what may block is called in a thread. All lines that wait at the same moment go out in one write.
    ::

                            a write to the output fails or is late,
                              or the spool holds lines (adopted)
           DIRECT        ─────────────────────────────────────────►         SPOOLING
        lines go to                                                  lines go to the spool, and a
        the output       ◄─────────────────────────────────────────  task delivers the oldest of
                              nothing waits in the spool, and         them to the output
                              no late write is still under way

    - A write is late when the oldest of its lines has waited 75 ms. Its lines go to the spool as well, so they may come
      twice. What the spool refuses of them is lost only if the late write does not take it either.
    - While SPOOLING, a caller whose line is not in the spool after 100 ms is answered False. The line is kept, and
      written as soon as the spool takes it.
    - What the spool refuses otherwise is lost and counted. Then nothing waits in it, and the output is tried again.
    """

    def __init__(self, output: Output, spool: Spool, metrics: Metrics, timeouts: Timeouts | None = None) -> None:
        self._output = output
        self._spool = spool
        self._metrics = metrics
        metrics.spool_bytes.set_function(lambda: spool.size)
        self._timeouts = timeouts or Timeouts()
        self._loop = asyncio.get_running_loop()
        self._output_thread = CallThread("event log")
        self._spool_thread = CallThread("spool")
        self._waiting: deque[Line] = deque()
        self._batch: list[Line] = []  # lines that are under way to the output or to the spool
        self._busy = False  # whether _write_next will be called anyway
        self._spooling = False
        self._late: list[Line] | None = None  # of a late write that has not come back, the lines that are not spooled
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None  # delivers
        self._looking: asyncio.Task[NoReturn] | None = None
        self._closed = False
        self._spool_hangs = False
        self._output_problem: str | None = None
        self._failing_since = ""
        self._throttle = LogThrottle()
        self.lost = 0

    @property
    def problem(self) -> str | None:
        """Why the spool takes no lines, in one line; None while it does."""
        return "its disk does not answer" if self._spool_hangs else self._spool.problem

    @property
    def output_problem(self) -> str | None:
        """Since when the output takes no lines, why, and how much waits, in one line; None while it does."""
        if self._output_problem is None:
            return None
        return (
            f"failing since {self._failing_since}: {self._output_problem}; {self._spool.size} bytes wait in the spool"
        )

    async def start(self) -> None:
        """Adopt what other processes left in the spool, and begin to write."""
        await asyncio.wait({self._spool_thread.run(self._spool.look_after)}, timeout=self._timeouts.hang)
        self._report()
        self._looking = asyncio.create_task(self._look_after_spool(), name="spool")
        self._write_next()

    def append(self, data: bytes) -> asyncio.Future[bool]:
        """Append one line, with its newline at the end.

        Returns:
            Within 100 ms: True once ``write(2)`` has taken the whole line, False if it is not recorded by then.

        Raises:
            ValueError: this is not one line of at most 4,095 bytes.
        """
        if len(data) > MAX_LINE or not data or data.find(b"\n") != len(data) - 1:
            raise ValueError(f"not one line of at most {MAX_LINE} bytes")
        line = Line(data, self._loop.create_future(), self._loop.time() + self._timeouts.answer)
        if self._spooling:
            if len(self._waiting) >= MAX_WAITING:
                self._lose([line], "its disk does not answer")
                return line.recorded
            self._answer_in_time([line])
        self._waiting.append(line)
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._write_next)
        return line.recorded

    async def close(self) -> None:
        """Wait until each line is decided, deliver for at most 1 s what waits in the spool, and close both."""
        until = self._loop.time() + self._timeouts.drain
        while (self._busy or self._spooling) and self._loop.time() < until:  # noqa: ASYNC110 - no event for shutdown alone
            await asyncio.sleep(POLL)
        self._closed = True
        for task in (self._task, self._looking):
            if task is not None:
                task.cancel()
                await asyncio.wait({task})
        self._lose([*self._batch, *self._waiting], "the process ends")
        if self._spool.size:
            logger.warning("%d bytes of events wait in the spool for the next start", self._spool.size)
        closing = {self._spool_thread.run(self._spool.close), self._output_thread.run(self._output.close)}
        self._spool_thread.stop()
        self._output_thread.stop()
        await asyncio.wait(closing, timeout=CLOSE_TIMEOUT)

    def _write_next(self) -> None:
        """Write the lines that wait. Called when none are under way."""
        if self._spool.size and not self._spooling:
            self._start_spooling(None)
        self._busy = bool(self._waiting)
        if not self._waiting:
            return
        lines, room = [], APPEND_BYTES if self._spooling else self._output.max_write
        while self._waiting and (room := room - len(self._waiting[0].data)) >= 0:
            lines.append(self._waiting.popleft())
        if self._spooling:
            self._write_to_spool(lines)
        else:
            self._write_to_output(lines)

    # --- DIRECT ---

    def _write_to_output(self, lines: list[Line]) -> None:
        self._batch = lines
        data = b"".join([line.data for line in lines])
        if not self._output.may_block:
            taken, error = 0, None
            try:
                taken = self._output.write(data)
            except Exception as problem:  # noqa: BLE001 - whatever breaks, nobody may wait for ever
                error = problem
            if not isinstance(error, BlockingIOError):
                self._written(lines, taken, error)
                return
        now = self._loop.time()
        late_at = max(lines[0].deadline - self._timeouts.answer + self._timeouts.output, now + MIN_WRITE_TIME)
        if self._output.may_block:
            self._timer = self._loop.call_at(late_at, self._loop.call_soon, self._write_is_late, lines)
        self._output_thread.submit((partial(self._written, lines), self._output.write, (data, late_at - now)))

    def _written(self, lines: list[Line], taken: int | None, error: Exception | None) -> None:
        """A write to the output has come back. ``lines`` loses those that were taken."""
        if self._closed:
            return
        if self._timer is not None:
            self._timer.cancel()
        count, left = 0, taken or 0
        for line in lines:
            left -= len(line.data)
            if left < 0:
                break
            if not line.recorded.done():
                line.recorded.set_result(True)
            count += 1
        del lines[:count]
        if count:
            self._output_problem = None
        if lines is self._late:
            self._late = None
            if lines is not self._batch:  # the spool has answered before
                self._lose(lines, "it refused them when they came")
            self._task = self._loop.create_task(self._deliver(), name="event log")
            return
        self._waiting.extendleft(reversed(lines))
        self._batch = []
        if error is not None:
            self._start_spooling(_in_words(error))
        self._loop.call_soon(self._write_next)

    def _write_is_late(self, lines: list[Line]) -> None:
        if self._batch is not lines:
            return  # it came back while the event loop was held up
        self._late = lines
        self._start_spooling("a write to it does not come back")
        self._write_to_spool(lines)

    # --- SPOOLING ---

    def _start_spooling(self, problem: str | None) -> None:
        """Leave DIRECT. The task begins at once, or when the late write has come back."""
        self._spooling = True
        if problem is not None:
            self._output_fails(problem)
        self._answer_in_time(self._late or ())
        self._answer_in_time(self._waiting)
        if self._late is None:
            self._task = self._loop.create_task(self._deliver(), name="event log")

    def _answer_in_time(self, lines: Iterable[Line]) -> None:
        for line in lines:
            self._loop.call_at(line.deadline, partial(line.answer, recorded=False))

    def _write_to_spool(self, lines: list[Line]) -> None:
        self._batch = lines
        data = b"".join([line.data for line in lines])
        self._spool_thread.submit((partial(self._spooled, lines, len(lines)), self._spool.append, (data,)))

    def _spooled(self, lines: list[Line], count: int, _: object, error: Exception | None) -> None:
        """The spool has taken all of a batch, or none. A late write may have taken the first of them meanwhile."""
        self._batch = []
        if error is None:
            for line in lines:
                line.answer(recorded=True)
            lines.clear()
            self._metrics.spooled.inc(count)
        elif lines is not self._late:
            self._lose(lines, _in_words(error))
        self._write_next()

    async def _deliver(self) -> None:
        """Carry the oldest lines from the spool to the output, however long it takes, until none wait."""
        while True:
            try:
                lines = await self._spool_thread.run(self._spool.next_lines, self._output.max_write)
                if lines:
                    taken = await self._output_thread.run(self._output.write, lines, self._timeouts.retry)
                    self._output_problem = None
                    self._spool_thread.run(self._spool.delivered, taken)
                    self._metrics.replayed.inc(lines.count(b"\n", 0, taken))
                elif not (self._busy or self._spool.size):
                    break
            except Exception as error:  # noqa: BLE001 - whatever is wrong with either, it is tried again
                self._output_fails(_in_words(error))
                if not isinstance(error, BlockingIOError):  # then it has been waited for already
                    await asyncio.sleep(self._timeouts.retry)
        self._spooling = False
        self._write_next()

    # --- What is lost, and what the operator is told ---

    def _output_fails(self, problem: str) -> None:
        if self._output_problem is None:
            self._failing_since = now()
        self._output_problem = problem

    def _lose(self, lines: list[Line], problem: str) -> None:
        if not lines:
            return
        for line in lines:
            line.answer(recorded=False)
        self.lost += len(lines)
        self._metrics.lost.inc(len(lines))
        if self._throttle.may_say("loss"):
            logger.error(
                "events are being lost: neither the event log (%s: %s) nor the spool (%s) takes them; %d so far",
                self._output.name,
                self._output_problem or "it has to wait for the spool",
                problem,
                self.lost,
            )

    async def _look_after_spool(self) -> NoReturn:
        while True:
            await asyncio.sleep(self._timeouts.look)
            look = self._spool_thread.run(self._spool.look_after)
            while not (await asyncio.wait({look}, timeout=self._timeouts.hang))[0]:
                self._spool_hangs = True
            self._spool_hangs = False
            if not self._busy:
                self._write_next()
            self._report()

    def _report(self) -> None:
        """Report what is wrong. Every few seconds only: a log that comes and goes must not fill stderr."""
        if self._output_problem and self._throttle.may_say("output"):
            logger.warning(
                "the event log (%s) takes no lines: %s; they go to the spool", self._output.name, self._output_problem
            )
        if self.problem and self._throttle.may_say("spool"):
            logger.error("the spool takes no lines: %s; what the event log does not take is lost", self.problem)


def _in_words(error: Exception) -> str:
    if isinstance(error, BlockingIOError):
        return "its reader is behind"
    return (error.strerror if isinstance(error, OSError) else None) or where(error)

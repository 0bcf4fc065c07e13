"""The event log: takes lines, hands them to the kernel in order, and tells of each whether it is recorded.

A line is recorded when ``write(2)`` has taken it whole, either for the event log itself or, where that fails or takes
too long, for the spool. What waits in the spool is delivered, oldest first, before any newer line goes to the log.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NoReturn, TypeVar

from service.events.lines import MAX_LINE
from service.events.outputs import Output
from service.events.pending import PendingLine, fitting
from service.events.replay import Replay
from service.events.reporter import Reporter
from service.events.spool import Spool
from service.events.thread import CallThread
from service.telemetry.diagnostics import where
from service.telemetry.metrics import Metrics

logger = logging.getLogger("service.events")
T = TypeVar("T")

ANSWER_WITHIN = 0.1
"""Seconds after which a line's caller is told, whatever the event log and the spool do."""
LOG_PATIENCE = 0.075
"""Seconds of these that the event log gets; the rest is for the spool."""
GRACE = 0.01
"""Seconds that a write gets at the least, also when the event loop itself was held up before it."""
LOOK_AFTER = 5.0
"""Seconds between two looks at the spool: can it be written to, did another process leave lines in it."""
START_WITHIN = 1.0
"""Seconds to wait for the spool's disk at the start."""
DRAIN_WITHIN = 1.0
"""Seconds to deliver at shutdown what waits in the spool; the rest is for the next process."""
CLOSE_WITHIN = 0.25
"""Seconds to wait for a disk at shutdown."""
CHUNK = 1 << 16
"""Bytes read from the spool at once."""
MAX_KEPT = 10_000
"""Lines that are kept in memory at the most while the spool's disk does not answer."""
APPEND = 1 << 20
"""Bytes written to the spool at once."""


class _NotTakenError(Exception):
    """The event log takes no line now; its text says why."""


class EventLog:
    """An append-only log over one output, with a spool behind it. Lines leave in the order in which they came.

    Nothing in the event loop ever waits for the output or the spool: what may block is called in a thread. All lines
    that wait at the same moment go out in one write.

    Args:
        output: where the lines belong; ``close`` closes it.
        spool: where they go when the output takes none; ``close`` closes it.
        metrics: counts what is lost, spooled and replayed.
        look_after: seconds between two looks at the spool.
    """

    def __init__(self, output: Output, spool: Spool, metrics: Metrics, *, look_after: float = LOOK_AFTER) -> None:
        self._output = output
        self._spool = spool
        self._metrics = metrics
        self._look_after = look_after
        self._loop = asyncio.get_running_loop()
        self._log_thread = CallThread("event log") if output.may_block else None
        self._spool_thread = CallThread("spool")
        self._fresh: deque[PendingLine] = deque()
        self._appending: Sequence[PendingLine] = ()
        self._late: Sequence[PendingLine] = ()
        self._taken_late = b""
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._tasks: tuple[asyncio.Task[NoReturn], ...] = ()
        self._spool_hangs = False
        self._trouble: str | None = None
        self._reporter = Reporter(output.name)
        self.lost = 0
        """Lines that neither the output nor the spool took."""

    @property
    def problem(self) -> str | None:
        """Why the spool takes no lines, in one line; None while it does."""
        return "its disk does not answer" if self._spool_hangs else self._spool.problem

    async def start(self) -> None:
        """Adopt what other processes left in the spool, and begin to write."""
        await self._finished(self._spool_thread.call(self._spool.look_after), self._loop.time() + START_WITHIN)
        self._reporter.look(self._trouble, self.problem, self.lost)
        self._tasks = (
            asyncio.create_task(self._write_for_ever(), name="event log"),
            asyncio.create_task(self._look_after_spool(), name="spool"),
        )

    def append(self, line: bytes) -> asyncio.Future[bool]:
        """Append one line.

        Args:
            line: UTF-8 with its newline at the end, at most 4,095 bytes.

        Returns:
            Within 100 ms: True once ``write(2)`` has taken the whole line, False if it is not recorded by then.

        Raises:
            ValueError: this is not one line of at most 4,095 bytes.
        """
        if len(line) > MAX_LINE or not line or line.find(b"\n") != len(line) - 1:
            raise ValueError(f"not one line of at most {MAX_LINE} bytes")
        recorded: asyncio.Future[bool] = self._loop.create_future()
        self._fresh.append(PendingLine(line, recorded, self._loop.time() + ANSWER_WITHIN))
        self._idle.clear()
        self._wake.set()
        return recorded

    async def close(self) -> None:
        """Wait until each line is decided, deliver for at most 1 s what waits in the spool, and close both."""
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_WITHIN):
                await self._idle.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        for line in (*self._appending, *self._fresh):
            self._lose(line, "the process ends")
        if self._spool.size:
            logger.warning("%d bytes of events wait in the spool for the next start", self._spool.size)
        await self._finished(self._spool_thread.call(self._spool.close), self._loop.time() + CLOSE_WITHIN)
        self._spool_thread.stop()
        if self._log_thread is None:
            self._output.close()
        else:
            await self._finished(self._log_thread.call(self._output.close), self._loop.time() + CLOSE_WITHIN)
            self._log_thread.stop()

    # --- To the event log ---

    async def _write_for_ever(self) -> NoReturn:
        while True:
            self._wake.clear()
            try:
                while self._fresh and not self._spool.size:
                    await self._write_fresh()
            except _NotTakenError as problem:
                self._trouble = str(problem)
            if self._fresh or self._spool.size:
                self._idle.clear()
                try:
                    await self._write_through_spool()
                except Exception as error:  # noqa: BLE001 - a mistake of ours must not end this task
                    logger.error("the spool failed unexpectedly: %s", where(error))  # noqa: TRY400 - see where()
                    await asyncio.sleep(GRACE)
                self._trouble = None
                continue
            self._idle.set()
            await self._wake.wait()

    async def _write_fresh(self) -> None:
        """Write once what waits.

        Raises:
            _NotTakenError: not one line was taken in time.
        """
        lines = fitting(self._fresh, self._output.max_write)
        data = b"".join([line.data for line in lines])
        until = max(lines[0].deadline - (ANSWER_WITHIN - LOG_PATIENCE), self._loop.time() + GRACE)
        try:
            taken = await (self._write(data, until) if self._log_thread is None else self._call_log(lines, data, until))
        except BlockingIOError:
            raise _NotTakenError("its reader is behind") from None
        except OSError as error:
            raise _NotTakenError(error.strerror or "it fails") from None
        except Exception as error:  # whatever breaks, nobody may wait for ever
            if isinstance(error, _NotTakenError):
                raise
            raise _NotTakenError(where(error)) from None
        while taken > 0:
            line = self._fresh.popleft()
            taken -= len(line.data)
            line.tell(recorded=True)

    async def _write(self, data: bytes, until: float) -> int:
        """Write to an output that never blocks, as soon as its reader has made room."""
        while True:
            try:
                return self._output.write(data)
            except BlockingIOError:
                if not await self._writable(until):
                    raise

    async def _writable(self, until: float) -> bool:
        room: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_writer(self._output.fileno(), _settle, room)
        try:
            return await self._finished(room, until)
        finally:
            self._loop.remove_writer(self._output.fileno())

    async def _call_log(self, lines: Sequence[PendingLine], data: bytes, until: float) -> int:
        """Write to an output that may block, in its thread."""
        assert self._log_thread is not None, "this output may block"  # noqa: S101 - tells mypy
        if not self._late:
            call = self._log_thread.call(self._output.write, data)
            if await self._finished(call, until):
                return call.result()
            self._late = lines
            for line in lines:
                line.is_late = True
            call.add_done_callback(self._came_back)
        raise _NotTakenError("a write to it does not come back")

    def _came_back(self, call: asyncio.Future[int]) -> None:
        """A late write is over: those it did not take, and nobody else took, are lost."""
        taken = 0 if call.exception() else call.result()
        self._taken_late = b"".join(line.data for line in self._late)[:taken]
        for line in self._late:
            taken -= len(line.data)
            line.is_late = False
            if taken >= 0:
                line.is_taken = True
                line.tell(recorded=True)
            elif line.is_given_up:
                self._count_lost()
        self._late = ()
        self._wake.set()

    # --- Through the spool ---

    async def _write_through_spool(self) -> None:
        """Write new lines to the spool and deliver the oldest from there, until nothing waits in it any more."""
        replay = Replay(self._output, self._log_thread, self._wake.set)
        try:
            while True:
                self._wake.clear()
                if self._fresh:
                    await self._append_fresh()
                if not replay.waiting and not replay.is_paused:
                    try:
                        replay.waiting = await self._in_spool(self._spool.next_lines, CHUNK)
                    except OSError as error:
                        self._trouble = f"the spool cannot be read ({error.strerror})"
                        replay.pause()
                    else:
                        if not replay.waiting:
                            return
                if await self._skip_taken(replay):
                    continue
                if not self._late and (taken := replay.go_on()):
                    await self._in_spool(self._spool.delivered, len(taken))
                    self._metrics.replayed.inc(taken.count(b"\n"))
                    self._metrics.spool_bytes.set(self._spool.size)
                elif not self._fresh:
                    await self._wake.wait()
        finally:
            self._taken_late = b""
            replay.stop()

    async def _skip_taken(self, replay: Replay) -> bool:
        """Pass over what a late write has taken after all; tell whether there was such a thing."""
        taken, rest = self._taken_late[: len(replay.waiting)], self._taken_late[len(replay.waiting) :]
        self._taken_late = b""
        if not taken or not replay.waiting.startswith(taken):
            return False
        self._taken_late = rest
        replay.waiting = replay.waiting[len(taken) :]
        await self._in_spool(self._spool.delivered, len(taken))
        return True

    async def _append_fresh(self) -> None:
        self._appending = lines = fitting(self._fresh, APPEND)
        for _ in lines:
            self._fresh.popleft()
        try:
            await self._in_spool(self._spool.append, b"".join(line.data for line in lines))
        except Exception as error:  # noqa: BLE001 - whatever breaks, nobody may wait for ever
            problem = (error.strerror if isinstance(error, OSError) else None) or where(error)
            for line in lines:
                self._lose(line, problem)
        else:
            for line in lines:
                line.tell(recorded=True)
            self._metrics.spooled.inc(len(lines))
            self._metrics.spool_bytes.set(self._spool.size)
        self._appending = ()

    async def _in_spool(self, function: Callable[..., T], *arguments: object) -> T:
        """Call a function of the spool; meanwhile nobody waits longer than he may.

        Lines whose callers were told that they are not recorded are kept all the same: a disk that is slow for a moment
        takes them yet.
        """
        call = self._spool_thread.call(function, *arguments)
        started = self._loop.time()
        while not await self._finished(call, max(self._next_deadline(), started + GRACE)):
            now = self._loop.time()
            for line in (*self._appending, *self._fresh):
                if line.deadline <= now:
                    line.tell(recorded=False)
            while len(self._fresh) > MAX_KEPT:
                self._lose(self._fresh.popleft(), "its disk does not answer")
        return call.result()

    def _next_deadline(self) -> float:
        """When the next of those who wait has to be told."""
        waiting = (line.deadline for line in (*self._appending, *self._fresh) if not line.recorded.done())
        return next(waiting, self._loop.time() + ANSWER_WITHIN)

    # --- What cannot be recorded, and what is to be told ---

    def _lose(self, line: PendingLine, problem: str) -> None:
        line.tell(recorded=False)
        self._reporter.losing(self._trouble, problem)
        line.is_given_up = True
        if not line.is_late and not line.is_taken:
            self._count_lost()

    def _count_lost(self) -> None:
        self.lost += 1
        self._reporter.lost_one()
        self._metrics.lost.inc()

    async def _look_after_spool(self) -> NoReturn:
        """Look after the spool and report, every few seconds: a log that comes and goes must not fill stderr."""
        while True:
            await asyncio.sleep(self._look_after)
            look = self._spool_thread.call(self._spool.look_after)
            while not await self._finished(look, self._loop.time() + START_WITHIN):
                self._spool_hangs = True
            self._spool_hangs = False
            self._metrics.spool_bytes.set(self._spool.size)
            if self._spool.size:
                self._wake.set()
            self._reporter.look(self._trouble, self.problem, self.lost)

    async def _finished(self, call: asyncio.Future[T], until: float) -> bool:
        """Wait for a future until a moment of the loop's time, without cancelling it; tell whether it is done."""
        woken: asyncio.Future[None] = self._loop.create_future()
        timer = self._loop.call_at(until, _settle, woken)
        call.add_done_callback(lambda _: _settle(woken))
        try:
            await woken
        finally:
            timer.cancel()
        return call.done()


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)

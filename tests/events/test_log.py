"""Pipes, files and spools are real; fakes stand in only for what a kernel does rarely."""

import asyncio
import errno
import gc
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from service.events.call_thread import CallThread
from service.events.log import MAX_WAITING, MIN_WRITE_TIME, EventLog, Timeouts
from service.events.outputs import MAX_LINE, Output
from service.events.spool import Spool
from service.telemetry.metrics import Metrics
from tests.support.outputs import FakeOutput, HangingOutput, Pipe
from tests.support.processes import TIMEOUT
from tests.support.spools import FaultySpool, leave, line, numbered, open_files

FULL = OSError(errno.ENOSPC, "No space left on device")
BROKEN = OSError(errno.EIO, "Input/output error")
ANSWER = 0.1
OUTPUT = 0.075
SOON = 100 * ANSWER
"""Seconds within which a slow machine, too, has answered what is promised within 100 ms."""
NEVER = 3600.0
IN_LOOP_AND_IN_THREAD = pytest.mark.parametrize("may_block", [False, True], ids=["in the loop", "in a thread"])
UNHURRIED = Timeouts(answer=TIMEOUT, output=OUTPUT, retry=0.001, look=NEVER, hang=TIMEOUT)
"""The spool gets all the time that a slow machine needs, the output what it always gets."""


class Log(EventLog):
    """The event log with its metrics at hand, which may be closed twice."""

    def __init__(self, output: Output, spool: Spool, *, late: float = OUTPUT, **changes: float) -> None:
        self.metrics = Metrics()
        self.is_open = True
        super().__init__(output, spool, self.metrics, replace(UNHURRIED, output=late, **changes))

    def counted(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"clerk_logout_{name}")

    async def close(self) -> None:
        if self.is_open:
            self.is_open = False
            await asyncio.wait_for(super().close(), SOON)


Open = Callable[..., Awaitable[Log]]


@pytest.fixture
def spool(directory: Path) -> Iterator[FaultySpool]:
    """The spool of the logs of a test, as long as it opens one log only."""
    spool = FaultySpool(directory)
    yield spool
    spool.let_go()


@pytest.fixture
async def open_log(spool: FaultySpool) -> AsyncIterator[Open]:
    """Opens a log that the test need not close."""
    logs: list[Log] = []

    async def open_(output: Output, spool: Spool = spool, **changes: float) -> Log:
        logs.append(Log(output, spool, **changes))
        await logs[-1].start()
        return logs[-1]

    yield open_
    spool.let_go()
    for log in logs:
        await log.close()
    # While there is a loop: without it a thread ends before it has closed the spool.
    await until(lambda: "spool" not in {thread.name for thread in threading.enumerate()})


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


@pytest.fixture
def hanging() -> Iterator[HangingOutput]:
    output = HangingOutput()
    yield output
    output.let_go()


async def append(log: EventLog, *lines: bytes, within: float = TIMEOUT) -> list[bool]:
    """Append lines in one turn of the loop."""
    return await asyncio.wait_for(asyncio.gather(*map(log.append, lines)), within)


async def until(condition: Callable[[], object]) -> None:
    """Wait for what another thread or a task does."""
    async with asyncio.timeout(TIMEOUT):
        while not condition():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.001)


# --- Lines and batches -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "what",
    [b"", b"no newline", b"two\nlines\n", b"\nline", b"#" * MAX_LINE + b"\n"],
    ids=["nothing", "no newline", "two lines", "a newline in front", "one byte too long"],
)
async def test_what_is_not_one_line_is_refused(open_log: Open, what: bytes) -> None:
    output = FakeOutput()
    log = await open_log(output)
    with pytest.raises(ValueError, match="not one line of at most 4095 bytes"):
        log.append(what)
    assert output.writes == []


@IN_LOOP_AND_IN_THREAD
async def test_lines_that_wait_go_out_in_one_write_that_blocks_nobody(open_log: Open, *, may_block: bool) -> None:
    output = FakeOutput(may_block=may_block)
    log = await open_log(output, late=TIMEOUT)
    await append(log, b"1\n", b"2\n")
    await append(log, b"3\n")
    assert output.writes == [b"1\n2\n", b"3\n"]
    assert output.threads == {"event log" if may_block else threading.current_thread().name}


# --- An output that fails --------------------------------------------------------------------------------------------


@IN_LOOP_AND_IN_THREAD
@pytest.mark.parametrize(
    "refusal", [FULL, 0, RuntimeError("a mistake of ours")], ids=["ENOSPC", "nothing was written", "whatever else"]
)
async def test_what_the_output_refuses_is_delivered_in_order(
    open_log: Open, refusal: int | Exception, *, may_block: bool
) -> None:
    output = FakeOutput([refusal, refusal, 100, refusal], may_block=may_block, max_write=130)
    log = await open_log(output, late=TIMEOUT)
    lines = numbered(10)
    for five in (lines[:5], lines[5:]):
        assert all(await append(log, *five))
    await until(lambda: output.content.endswith(lines[-1]))
    assert output.content == b"".join(lines)
    assert max(map(len, output.writes)) == 120, "no more than the output takes at once"
    assert log.lost == 0
    await until(lambda: log.counted("spool_bytes") == 0)
    assert log.counted("events_spooled_total") == log.counted("events_replayed_total")


async def test_an_output_that_fails_is_reported_at_the_next_look(
    open_log: Open, caplog: pytest.LogCaptureFixture
) -> None:
    output = FakeOutput()
    output.refuses = FULL
    log = await open_log(output, look=0.005)
    await append(log, line(1))
    await until(lambda: caplog.records)
    await asyncio.sleep(0.05)  # several looks, in which nothing is to be said
    assert caplog.messages == ["the event log (fake) takes no lines: No space left on device; they go to the spool"]


# --- A reader that is behind -----------------------------------------------------------------------------------------


async def test_a_stalled_pipe_is_given_a_moment_while_the_loop_goes_on(open_log: Open, pipe: Pipe) -> None:
    pipe.fill()
    log = await open_log(pipe.output, late=0.5)
    started, turns = time.monotonic(), 0
    taken = log.append(line(1))
    while not taken.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert 0.5 <= time.monotonic() - started < SOON
    assert turns > 10
    assert taken.result()
    assert log.counted("events_spooled_total") == 1


async def test_a_reader_gets_its_moment_after_the_loop_was_held_up(
    open_log: Open, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.events.log.MIN_WRITE_TIME", TIMEOUT)
    filling = pipe.fill()
    log = await open_log(pipe.output, late=0.0)
    taken = log.append(line(1))
    await asyncio.sleep(0.01)
    content = pipe.read()
    assert await asyncio.wait_for(taken, TIMEOUT)
    assert content + pipe.read() == filling + line(1)
    assert log.output_problem is None, "nothing went to the spool"


async def test_a_reader_that_is_slow_but_steady_needs_no_spool(open_log: Open, pipe: Pipe) -> None:
    """It leaves the pipe full time and again, never for long."""
    expected = pipe.fill()
    log = await open_log(pipe.output, late=TIMEOUT)
    lines = numbered(64, length=2048)
    taken = asyncio.gather(*map(log.append, lines))
    content = b""
    while not taken.done():
        with suppress(BlockingIOError):
            content += os.read(pipe.reader, 8192)
        await asyncio.sleep(0)
    assert all(await taken)
    assert content + pipe.read() == expected + b"".join(lines)
    assert log.counted("events_spooled_total") == 0


async def test_the_spool_is_delivered_while_new_lines_keep_coming(open_log: Open, spool: FaultySpool) -> None:
    """Under load each append lets the next lines in; the oldest must not wait for a pause."""
    loop = asyncio.get_running_loop()
    output = FakeOutput([FULL])
    numbers = count(1)
    really_append = spool.append

    def append_and_get_the_next(lines: bytes) -> None:
        really_append(lines)
        if not output.content:
            loop.call_soon_threadsafe(log.append, line(next(numbers)))

    spool.append = append_and_get_the_next  # type: ignore[method-assign]
    log = await open_log(output)
    await append(log, line(0))
    await until(lambda: output.content)


# --- A write that is late --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", [1000, 100, BROKEN], ids=["takes all", "takes a part", "fails"])
async def test_lines_of_a_late_write_are_spooled_in_time(open_log: Open, outcome: int | Exception) -> None:
    """What the write took may come twice when it comes back, but nothing is missing and nothing out of order."""
    hanging = HangingOutput([outcome])
    log = await open_log(hanging)
    lines = numbered(10)
    for five in (lines[:5], lines[5:]):
        assert all(await append(log, *five, within=SOON))
    assert log.counted("events_spooled_total") == 10
    hanging.let_go()
    await until(lambda: hanging.content.endswith(lines[-1]))
    assert list(dict.fromkeys(hanging.content.splitlines(keepends=True))) == lines
    await until(lambda: log.counted("spool_bytes") == 0)
    assert await append(log, line(99)) == [True]
    await until(lambda: hanging.content.endswith(line(99)))
    assert log.lost == 0


@pytest.mark.parametrize(("outcome", "lost"), [(1000, 0), (130, 3), (BROKEN, 5)], ids=["all", "a part", "none"])
@pytest.mark.parametrize("first", ["the spool refuses", "the write comes back"])
async def test_what_a_late_write_took_is_not_lost(
    open_log: Open, spool: FaultySpool, outcome: int | Exception, lost: int, first: str
) -> None:
    hanging = HangingOutput([outcome])
    log = await open_log(hanging, answer=ANSWER)
    spool.refuses = FULL
    spool.hang()
    assert await append(log, *numbered(5), within=SOON) == [False] * 5
    assert log.lost == 0, "nobody knows yet"
    if first == "the write comes back":
        hanging.let_go()
        await until(lambda: "event log" in {task.get_name() for task in asyncio.all_tasks()})  # it delivers again
    spool.let_go()
    hanging.let_go()
    await until(lambda: hanging.content == b"".join(numbered(5)[: 5 - lost]) and log.lost == lost)
    spool.refuses = None
    await append(log, line(99))
    await until(lambda: hanging.content.endswith(line(99)))
    assert log.lost == log.counted("events_lost_total") == lost


async def test_a_late_write_that_comes_back_in_time_answers_true(
    open_log: Open, hanging: HangingOutput, spool: FaultySpool
) -> None:
    log = await open_log(hanging)
    spool.refuses = FULL
    taken = log.append(line(1))
    asyncio.get_running_loop().call_later(2 * OUTPUT, hanging.let_go)
    assert await asyncio.wait_for(taken, TIMEOUT)
    assert log.lost == 0


async def test_a_write_is_not_late_because_the_loop_was_held_up(
    open_log: Open, hanging: HangingOutput, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    log = await open_log(hanging, late=0.0)
    come_back = threading.Event()
    really_call_soon = loop.call_soon_threadsafe

    def call_soon_threadsafe(*arguments: Any) -> None:
        really_call_soon(*arguments)
        come_back.set()

    def let_go() -> None:
        """Called in one turn with what finds that the write is late, and before it."""
        hanging.let_go()
        assert come_back.wait(TIMEOUT)

    def hold_up() -> None:
        time.sleep(2 * MIN_WRITE_TIME)
        loop.call_soon(let_go)

    monkeypatch.setattr(loop, "call_soon_threadsafe", call_soon_threadsafe)
    taken = log.append(line(1))
    loop.call_soon(hold_up)
    assert await asyncio.wait_for(taken, TIMEOUT)
    assert log.output_problem is None, "nothing went to the spool"


# --- A spool that refuses or hangs -----------------------------------------------------------------------------------


async def test_what_neither_takes_is_lost_counted_and_said_once(
    open_log: Open, spool: FaultySpool, caplog: pytest.LogCaptureFixture
) -> None:
    output = FakeOutput()
    output.refuses = BROKEN
    spool.refuses = FULL
    log = await open_log(output)
    for _ in range(3):
        assert await append(log, line(1), line(2)) == [False, False]
    assert log.lost == log.counted("events_lost_total") == 6
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.message == (
        "events are being lost: neither the event log (fake: Input/output error) "
        "nor the spool (No space left on device) takes them; 2 so far"
    )
    assert "failing since" in (log.output_problem or ""), "also while it is tried again"
    output.refuses = None
    await until(lambda: log.append(line(3)) and output.content.startswith(line(3)))
    await until(lambda: log.output_problem is None)


@pytest.mark.parametrize(
    "problem",
    [OSError(errno.EMFILE, "Too many open files"), RuntimeError("secret")],
    ids=["too many files", "whatever else"],
)
async def test_a_spool_that_cannot_be_read_takes_new_lines_in_time(
    open_log: Open, spool: FaultySpool, problem: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    output = FakeOutput([FULL])
    spool.unreadable = problem
    log = await open_log(output, answer=5.0, retry=0.01, look=0.01)
    lines = numbered(10)
    for number in range(10):
        assert await append(log, lines[number]) == [True]
    await until(lambda: "takes no lines: " in caplog.text)
    assert "secret" not in caplog.text
    spool.unreadable = None
    await until(lambda: output.content == b"".join(lines))
    assert log.lost == 0


async def test_a_spool_that_hangs_delays_nobody_and_keeps_so_many(open_log: Open, spool: FaultySpool) -> None:
    output = FakeOutput()
    output.refuses = FULL
    log = await open_log(output, answer=ANSWER)
    spool.hang()
    started = time.monotonic()
    assert await append(log, line(0)) == [False]
    assert ANSWER * 0.9 <= time.monotonic() - started < SOON
    assert log.lost == 0, "the disk may still take it"
    lines = numbered(MAX_WAITING + 3, start=1)
    assert not any(await append(log, *lines))
    assert log.lost == 3
    output.refuses = None
    spool.let_go()
    await until(lambda: output.content == b"".join([line(0), *lines[:-3]]))
    assert log.lost == 3


async def test_a_disk_that_does_not_answer_is_a_problem_until_it_does(
    open_log: Open, spool: FaultySpool, caplog: pytest.LogCaptureFixture
) -> None:
    """It keeps the service neither from starting nor from recording."""
    spool.hang()
    output = FakeOutput()
    log = await open_log(output, look=0.001, hang=0.05)
    assert log.problem == "not opened yet"
    assert await append(log, line(1)) == [True]
    await until(lambda: log.problem == "its disk does not answer")
    spool.let_go()
    await until(lambda: log.problem is None)
    assert caplog.messages == ["the spool takes no lines: not opened yet; what the event log does not take is lost"]


# --- What other processes left ---------------------------------------------------------------------------------------


async def test_what_was_left_is_delivered_before_anything_new(open_log: Open, directory: Path) -> None:
    leave(directory, line(1) + line(2), line(3) + b'{"event":"to')
    leave(directory, line(4))
    output = FakeOutput()
    log = await open_log(output)
    assert await append(log, line(5)) == [True]
    await until(lambda: log.counted("events_replayed_total") == 5)
    assert output.content == b"".join(numbered(5, start=1))


# --- Closing ---------------------------------------------------------------------------------------------------------


async def test_what_cannot_be_delivered_waits_for_the_next_start(
    open_log: Open, directory: Path, pipe: Pipe, caplog: pytest.LogCaptureFixture
) -> None:
    pipe.fill()
    log = await open_log(pipe.output, Spool(str(directory), 1 << 30), drain=3.0)
    taken = [log.append(one) for one in numbered(20)]
    taken[0].cancel()
    await log.close()
    assert all(future.result() for future in taken[1:])
    assert caplog.messages[-1] == "1200 bytes of events wait in the spool for the next start"
    output = FakeOutput()
    await open_log(output, look=0.01)  # again and again: the first may still hold the spool
    await until(lambda: output.content == b"".join(numbered(20)))


async def test_closing_does_not_wait_for_an_output_that_hangs(
    open_log: Open, directory: Path, hanging: HangingOutput
) -> None:
    log = await open_log(hanging, Spool(str(directory), 1 << 30))
    assert await append(log, line(1)) == [True]
    await log.close()
    assert not hanging.closed
    hanging.let_go()
    await until(lambda: hanging.closed)
    output = FakeOutput()
    await open_log(output, look=0.01)  # again and again: the first may still hold the spool
    await until(lambda: output.content == line(1))


async def test_a_line_that_nobody_could_take_before_the_end_is_lost(
    open_log: Open, spool: FaultySpool, caplog: pytest.LogCaptureFixture
) -> None:
    output = FakeOutput()
    output.refuses = FULL
    log = await open_log(output, drain=0.001)
    spool.hang()
    taken = [log.append(line(1)), log.append(line(2))]
    await log.close()
    await until(lambda: output.closed)
    assert [future.result() for future in taken] == [False, False]
    assert log.lost == 2
    assert "nor the spool (the process ends) takes them" in caplog.text


async def test_closing_closes_every_descriptor_and_ends_every_thread(
    open_log: Open, directory: Path, pipe: Pipe
) -> None:
    leave(directory, line(1), line(2))
    before, threads = open_files() - 1, set(threading.enumerate())  # the pipe's is open already
    pipe.fill()
    log = await open_log(pipe.output)
    await append(log, line(3))
    await log.close()
    await until(lambda: open_files() <= before)  # a log of another test may have closed some late
    await until(lambda: set(threading.enumerate()) <= threads)


def test_a_disk_that_answers_after_the_loop_is_closed_is_ignored() -> None:
    """As at the end of a process: the thread that it has held up ends."""
    entered, free = threading.Event(), threading.Event()

    def hang() -> None:
        entered.set()
        assert free.wait(TIMEOUT)

    async def begin() -> None:
        CallThread("of a closed loop").run(hang)
        await asyncio.to_thread(entered.wait, TIMEOUT)

    asyncio.run(begin())
    (thread,) = (thread for thread in threading.enumerate() if thread.name == "of a closed loop")
    free.set()
    thread.join(TIMEOUT)
    assert not thread.is_alive()


async def test_asyncio_complains_of_no_error_that_nobody_hears() -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
    thread = CallThread("calls")
    await asyncio.wait({thread.run(divmod, 7, 0)})
    assert await thread.run(abs, -1) == 1, "the thread lives on"
    gc.collect()
    assert complaints == []
    thread.stop()

"""Pipes, files and spools are real; fakes stand in only for what a kernel does rarely."""

import asyncio
import errno
import logging
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from service.events import log as log_module
from service.events import replay as replay_module
from service.events.lines import MAX_LINE
from service.events.log import ANSWER_WITHIN, APPEND, LOG_PATIENCE, EventLog
from service.events.outputs import LogFile, Output
from service.events.spool import Spool
from service.telemetry.metrics import Metrics
from tests.support.disks import fill, small_disk
from tests.support.outputs import FakeOutput, HangingOutput, Pipe
from tests.support.processes import TIMEOUT
from tests.support.spools import FaultySpool, claims, contents, leave, line, numbered, open_files

pytestmark = pytest.mark.usefixtures("patient_callers")

FULL = OSError(errno.ENOSPC, "No space left on device")
BROKEN = OSError(errno.EIO, "Input/output error")
SOON = 10 * ANSWER_WITHIN
"""Seconds within which a slow machine, too, has answered what is promised within 100 ms."""
NEVER = 3600.0


class Log(EventLog):
    """The event log with what it is made of at hand."""

    def __init__(self, output: Output, spool: Spool, *, look_after: float = NEVER) -> None:
        self.metrics = Metrics()
        super().__init__(output, spool, self.metrics, look_after=look_after)

    def counted(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"clerk_logout_{name}")


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

    async def open_(output: Output, spool: Spool = spool, *, look_after: float = NEVER) -> Log:
        logs.append(Log(output, spool, look_after=look_after))
        await logs[-1].start()
        return logs[-1]

    yield open_
    spool.let_go()
    for log in logs:
        await asyncio.wait_for(log.close(), TIMEOUT)


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


@pytest.fixture
def patient_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the spool all the time that a slow machine needs; the event log gets what it always gets."""
    monkeypatch.setattr(log_module, "ANSWER_WITHIN", TIMEOUT)


@pytest.fixture
def hasty_callers(patient_callers: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answer within 100 ms, as in earnest, where it is the spool that hangs."""
    del patient_callers
    monkeypatch.setattr(log_module, "ANSWER_WITHIN", ANSWER_WITHIN)


@pytest.fixture
def patient_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the event log, too, all the time that a slow machine needs."""
    monkeypatch.setattr(log_module, "LOG_PATIENCE", TIMEOUT)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """An output that fails is tried again at once, and not after half a second."""
    monkeypatch.setattr(replay_module, "RETRY_AFTER", 0.001)


async def append(log: EventLog, *lines: bytes) -> list[bool]:
    """Append lines in one turn of the loop."""
    return await asyncio.wait_for(asyncio.gather(*map(log.append, lines)), TIMEOUT)


async def until(condition: Callable[[], object]) -> None:
    """Wait for what another thread or a task does."""
    async with asyncio.timeout(TIMEOUT):
        while not condition():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.001)


def first_occurrences(content: bytes) -> list[bytes]:
    """The lines without those that came again."""
    return list(dict.fromkeys(content.splitlines(keepends=True)))


# --- What is a line --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"line", id="no newline"),
        pytest.param(b"two\nlines\n", id="two lines"),
        pytest.param(b"two\n\n", id="two newlines"),
        pytest.param(b"\nline", id="a newline in front"),
        pytest.param(b"#" * MAX_LINE + b"\n", id="one byte too long"),
    ],
)
async def test_what_is_not_one_line_is_refused(open_log: Open, what: bytes) -> None:
    output = FakeOutput()
    log = await open_log(output)
    with pytest.raises(ValueError, match="not one line of at most 4095 bytes"):
        log.append(what)
    assert output.writes == []


@pytest.mark.parametrize("what", [b"\n", b"#" * (MAX_LINE - 1) + b"\n"], ids=["shortest", "longest"])
async def test_a_line_within_the_bounds_is_taken(open_log: Open, what: bytes) -> None:
    output = FakeOutput()
    assert await append(await open_log(output), what) == [True]
    assert output.content == what


# --- Order and batches -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("patient_log")
async def test_lines_leave_in_the_order_in_which_they_were_appended(open_log: Open, tmp_path: Path) -> None:
    path = tmp_path / "events.log"
    log = await open_log(LogFile(str(path)))
    lines = numbered(300)
    for turn in range(3):
        assert all(await append(log, *lines[turn * 100 : turn * 100 + 100]))
    assert path.read_bytes() == b"".join(lines)


@pytest.mark.usefixtures("patient_log")
async def test_a_line_is_with_the_kernel_when_its_append_is_done(open_log: Open, tmp_path: Path) -> None:
    path = tmp_path / "events.log"
    log = await open_log(LogFile(str(path)))
    assert await log.append(line(1))
    assert path.read_bytes() == line(1)


async def test_the_lines_of_one_turn_of_the_loop_go_out_in_one_write(open_log: Open) -> None:
    output = FakeOutput()
    log = await open_log(output)
    await append(log, b"1\n", b"2\n")
    await append(log, b"3\n")
    assert output.writes == [b"1\n2\n", b"3\n"]


async def test_batches_are_cut_at_line_ends_within_what_the_output_takes(open_log: Open) -> None:
    output = FakeOutput(max_write=4096)
    lines = numbered(20, length=1500)
    assert all(await append(await open_log(output), *lines))
    assert output.writes == [b"".join(lines[start : start + 2]) for start in range(0, 20, 2)]


async def test_a_batch_that_fits_exactly_is_one_write(open_log: Open) -> None:
    output = FakeOutput(max_write=4096)
    await append(await open_log(output), *numbered(4, length=1024))
    assert list(map(len, output.writes)) == [4096]


async def test_a_pipe_gets_every_line(open_log: Open, pipe: Pipe) -> None:
    lines = numbered(40, length=700)
    assert all(await append(await open_log(pipe.output), *lines))
    assert pipe.read() == b"".join(lines)


@pytest.mark.parametrize("may_block", [False, True], ids=["in the loop", "in a thread"])
@pytest.mark.usefixtures("patient_log")
async def test_an_output_is_called_where_it_stops_nobody(open_log: Open, *, may_block: bool) -> None:
    output = FakeOutput(may_block=may_block)
    await append(await open_log(output), line(1))
    assert output.threads == {"event log" if may_block else threading.current_thread().name}


@pytest.mark.usefixtures("patient_log")
@pytest.mark.parametrize("may_block", [False, True], ids=["in the loop", "in a thread"])
async def test_what_a_short_write_left_is_written_next(open_log: Open, spool: FaultySpool, *, may_block: bool) -> None:
    output = FakeOutput([150], may_block=may_block)
    lines = numbered(5, length=60)
    assert await append(await open_log(output), *lines) == [True] * 5
    assert output.writes == [b"".join(lines), b"".join(lines[2:])]
    assert output.content == b"".join(lines)
    assert spool.size == 0


async def test_a_caller_who_no_longer_waits_holds_nobody_up(open_log: Open) -> None:
    """A server that shuts down cancels its requests."""
    output = FakeOutput()
    log = await open_log(output)
    first, second = log.append(line(1)), log.append(line(2))
    first.cancel()
    assert await asyncio.wait_for(second, TIMEOUT)
    assert await append(log, line(3)) == [True]
    assert output.content == line(1) + line(2) + line(3)


async def test_what_works_says_nothing(open_log: Open, caplog: pytest.LogCaptureFixture) -> None:
    log = await open_log(FakeOutput(), look_after=0.001)
    await append(log, line(1), line(2))
    assert (log.lost, log.problem) == (0, None)
    assert caplog.records == []


@pytest.mark.usefixtures("patient_log")
async def test_the_line_after_a_rotation_goes_to_the_new_file(open_log: Open, tmp_path: Path) -> None:
    path = tmp_path / "events.log"
    log = await open_log(LogFile(str(path)))
    await append(log, line(1))
    path.rename(tmp_path / "events.log.1")
    await append(log, line(2))
    path.unlink()
    await append(log, line(3))
    assert (tmp_path / "events.log.1").read_bytes() == line(1)
    assert path.read_bytes() == line(3)


# --- A log that fails ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("may_block", [False, True], ids=["in the loop", "in a thread"])
@pytest.mark.parametrize(
    "refusal",
    [
        pytest.param(FULL, id="ENOSPC"),
        pytest.param(BROKEN, id="EIO"),
        pytest.param(BrokenPipeError(errno.EPIPE, "Broken pipe"), id="EPIPE"),
        pytest.param(0, id="nothing was written"),
        pytest.param(RuntimeError("a mistake of ours"), id="whatever else"),
    ],
)
@pytest.mark.usefixtures("soon")
async def test_what_the_log_refuses_goes_to_the_spool_and_is_delivered_in_order(
    open_log: Open, refusal: int | Exception, *, may_block: bool
) -> None:
    output = FakeOutput([refusal, refusal, 100, refusal], may_block=may_block)
    log = await open_log(output)
    lines = numbered(10)
    for number in range(10):
        assert await append(log, lines[number]) == [True]
    await until(lambda: output.content.endswith(lines[-1]))
    assert output.content == b"".join(lines)
    assert log.lost == 0


@pytest.mark.usefixtures("soon")
async def test_once_everything_is_delivered_lines_go_to_the_log_directly_again(open_log: Open, directory: Path) -> None:
    output = FakeOutput([FULL])
    log = await open_log(output)
    await append(log, line(1), line(2))
    await until(lambda: log.counted("events_replayed_total") == 2)
    assert log.counted("spool_bytes") == 0
    await append(log, line(3))
    assert output.writes[-1] == line(3)
    assert log.counted("events_spooled_total") == 2
    assert contents(directory) == []


async def test_what_waits_in_the_spool_is_counted(open_log: Open) -> None:
    output = FakeOutput()
    output.refuses = FULL
    log = await open_log(output)
    await append(log, line(1, 100), line(2, 50))
    assert log.counted("events_spooled_total") == 2
    assert log.counted("spool_bytes") == 150
    assert log.counted("events_replayed_total") == 0


@pytest.mark.usefixtures("soon")
async def test_a_log_that_fails_and_recovers_says_so_once(open_log: Open, caplog: pytest.LogCaptureFixture) -> None:
    output = FakeOutput()
    output.refuses = FULL
    log = await open_log(output, look_after=0.005)
    for number in range(3):
        await append(log, line(number))
        await asyncio.sleep(0.02)  # several looks
    output.refuses = None
    await until(lambda: len(caplog.records) == 2)
    assert [(record.levelno, record.message) for record in caplog.records] == [
        (
            logging.WARNING,
            "the event log (fake) takes no lines: No space left on device; events wait in the spool",
        ),
        (logging.WARNING, "the event log (fake) takes lines again, and has taken what waited"),
    ]


async def test_a_mistake_of_ours_is_told_by_its_place(open_log: Open, caplog: pytest.LogCaptureFixture) -> None:
    output = FakeOutput()
    output.refuses = RuntimeError("secret")
    await append(await open_log(output, look_after=0.001), line(1))
    await until(lambda: caplog.records)
    assert caplog.messages[0].startswith("the event log (fake) takes no lines: RuntimeError in outputs.py:")
    assert "secret" not in caplog.text


async def test_an_error_without_words_has_some(open_log: Open, caplog: pytest.LogCaptureFixture) -> None:
    output = FakeOutput()
    output.refuses = OSError("no number")
    await append(await open_log(output, look_after=0.001), line(1))
    await until(lambda: caplog.records)
    assert "takes no lines: it fails;" in caplog.messages[0]


@pytest.mark.usefixtures("patient_log")
async def test_a_full_disk_under_the_log_costs_nothing(
    open_log: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_module, "RETRY_AFTER", 0.01)
    with small_disk(tmp_path):
        path = tmp_path / "events.log"
        log = await open_log(LogFile(str(path)))
        lines = numbered(500, length=1000)
        for start in range(0, 500, 50):
            assert all(await append(log, *lines[start : start + 50]))
        written = path.read_bytes()
        assert written == b"".join(lines[: len(written) // 1000])
        assert len(written) < 500_000
        path.rename(tmp_path / "events.log.1")
        (tmp_path / "events.log.1").unlink()
        await until(lambda: log.counted("spool_bytes") == 0 or fits(path))
        rest = path.read_bytes()
        assert rest == b"".join(lines)[len(written) :][: len(rest)]
        assert len(rest) > 100_000
        assert log.lost == 0


def fits(path: Path) -> bool:
    """The small disk holds 256 KiB: it has been filled again."""
    return path.exists() and path.stat().st_size > 250_000


async def test_a_directory_that_has_gone_costs_nothing(
    open_log: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_module, "RETRY_AFTER", 0.01)
    path = tmp_path / "log" / "events.log"
    path.parent.mkdir()
    log = await open_log(LogFile(str(path)))
    path.unlink()
    path.parent.rmdir()
    assert await append(log, line(1)) == [True]
    path.parent.mkdir()
    assert await append(log, line(2)) == [True]
    await until(lambda: path.exists() and path.read_bytes() == line(1) + line(2))


async def test_a_reader_that_has_gone_costs_nothing(open_log: Open, directory: Path) -> None:
    pipe = Pipe()
    pipe.close()
    log = await open_log(pipe.output)
    assert await append(log, line(1), line(2)) == [True, True]
    assert log.lost == 0
    assert contents(directory) == [line(1) + line(2)]


# --- A reader that is behind -----------------------------------------------------------------------------------------


async def test_a_stalled_pipe_is_given_a_moment_then_the_spool_takes_over_while_the_loop_turns(
    open_log: Open, pipe: Pipe
) -> None:
    loop = asyncio.get_running_loop()
    filling = pipe.fill()
    log = await open_log(pipe.output)
    started, turns = loop.time(), 0
    taken = log.append(line(1))
    while not taken.done():
        await asyncio.sleep(0)
        turns += 1
    assert LOG_PATIENCE <= loop.time() - started < SOON
    assert turns > 50
    assert taken.result()
    assert log.counted("events_spooled_total") == 1
    assert pipe.read() == filling


async def test_a_stalled_pipe_gets_everything_in_order_when_it_is_read_again(open_log: Open, pipe: Pipe) -> None:
    filling = pipe.fill()
    log = await open_log(pipe.output)
    lines = numbered(400, length=1000)
    for start in range(0, 400, 40):
        assert all(await append(log, *lines[start : start + 40]))
    content = b""

    def read() -> bool:
        nonlocal content
        content += pipe.read()
        return len(content) >= len(filling) + 400_000

    await until(read)
    assert content == filling + b"".join(lines)
    await until(log._idle.is_set)
    assert log.counted("events_replayed_total") == 400
    spooled = log.counted("events_spooled_total")
    assert await append(log, line(999)) == [True]
    assert pipe.read() == line(999)
    assert log.counted("events_spooled_total") == spooled


@pytest.mark.usefixtures("patient_log")
async def test_lines_that_wait_for_a_moment_only_need_no_spool(open_log: Open, pipe: Pipe) -> None:
    filling = pipe.fill()
    log = await open_log(pipe.output)
    taken = []
    for number in range(10):
        taken.append(log.append(line(number)))
        await asyncio.sleep(0)
    assert not any(future.done() for future in taken)
    assert pipe.read() == filling
    assert all(await asyncio.gather(*taken))
    assert pipe.read() == b"".join(numbered(10))
    assert log.counted("events_spooled_total") == 0


async def test_while_older_lines_wait_newer_ones_never_overtake_them(open_log: Open, pipe: Pipe) -> None:
    filling = pipe.fill()
    log = await open_log(pipe.output)
    lines = numbered(300, length=700)
    assert await append(log, *lines[:100]) == [True] * 100
    content = b""
    for number in range(100, 300):
        taken = log.append(lines[number])
        content += os.read(pipe.reader, 512) if len(content) < len(filling) else pipe.read()
        assert await taken

    def read() -> bool:
        nonlocal content
        content += pipe.read()
        return content.endswith(lines[-1])

    await until(read)
    assert content == filling + b"".join(lines)


async def test_more_than_goes_into_the_spool_at_once_goes_there_too(open_log: Open, pipe: Pipe) -> None:
    pipe.fill()
    log = await open_log(pipe.output)
    lines = numbered(APPEND // 4000 + 100, length=4000)
    assert all(await append(log, *lines))
    assert log.counted("spool_bytes") == 4000 * len(lines)


async def test_a_reader_that_goes_while_a_line_waits_is_noticed_at_once(open_log: Open, spool: FaultySpool) -> None:
    pipe = Pipe()
    pipe.fill()
    log = await open_log(pipe.output)
    taken = log.append(line(1))
    await asyncio.sleep(0)
    pipe.close()
    assert await asyncio.wait_for(taken, TIMEOUT)
    assert spool.size == len(line(1))


async def test_a_reader_that_has_come_back_is_no_longer_watched(open_log: Open, pipe: Pipe) -> None:
    """The loop would turn for ever: an empty pipe is always writable."""
    pipe.fill()
    log = await open_log(pipe.output)
    taken = log.append(line(1))
    await asyncio.sleep(0)
    pipe.read()
    assert await taken
    assert not asyncio.get_running_loop().remove_writer(pipe.output.fileno())


@pytest.mark.usefixtures("patient_log")
async def test_a_reader_that_is_slow_but_steady_gets_every_line(open_log: Open, pipe: Pipe) -> None:
    """It leaves the pipe full time and again, never for long."""
    expected = pipe.fill()
    log = await open_log(pipe.output)
    lines = numbered(64, length=2048)
    taken = asyncio.gather(*map(log.append, lines))
    content = b""
    while not taken.done():
        content += os.read(pipe.reader, 8192)
        await asyncio.sleep(0)
    assert all(await taken)
    assert content + pipe.read() == expected + b"".join(lines)


@pytest.mark.usefixtures("soon")
async def test_the_spool_is_delivered_while_new_lines_keep_coming(
    open_log: Open, directory: Path, spool: FaultySpool
) -> None:
    """Under load each append lets the next lines in; the oldest must not wait for a pause."""
    loop = asyncio.get_running_loop()
    output = FakeOutput([FULL])
    numbers = iter(range(1, 400))
    really_append = spool.append

    def append_and_get_the_next(lines: bytes) -> None:
        really_append(lines)
        if (number := next(numbers, None)) is not None:
            loop.call_soon_threadsafe(log.append, line(number))

    spool.append = append_and_get_the_next  # type: ignore[method-assign]
    log = await open_log(output)
    await append(log, line(0))
    await until(lambda: output.content)
    assert next(numbers, None) is not None, "nothing was delivered before the last line had come"
    await until(log._idle.is_set)
    assert first_occurrences(output.content) == output.content.splitlines(keepends=True)
    assert contents(directory) == []


# --- A write that does not come back ---------------------------------------------------------------------------------


async def test_lines_of_a_write_that_hangs_are_in_the_spool_in_time(open_log: Open, hanging: HangingOutput) -> None:
    loop = asyncio.get_running_loop()
    log = await open_log(hanging)
    started = loop.time()
    assert await append(log, line(1), line(2)) == [True, True]
    assert LOG_PATIENCE <= loop.time() - started < SOON
    started = loop.time()
    assert await append(log, line(3)) == [True]
    assert loop.time() - started < SOON
    assert log.counted("events_spooled_total") == 3


@pytest.mark.parametrize(
    "outcome",
    [pytest.param(1000, id="takes all"), pytest.param(100, id="takes a part"), pytest.param(BROKEN, id="fails")],
)
@pytest.mark.usefixtures("soon")
async def test_when_the_write_comes_back_delivery_goes_on_in_order(open_log: Open, outcome: int | Exception) -> None:
    hanging = HangingOutput([outcome])
    log = await open_log(hanging)
    lines = numbered(10)
    assert all(await append(log, *lines[:5]))
    assert all(await append(log, *lines[5:]))
    hanging.let_go()
    await until(lambda: hanging.content.endswith(lines[-1]))
    assert first_occurrences(hanging.content) == lines
    await until(log._idle.is_set)
    assert await append(log, line(99)) == [True]
    await until(lambda: hanging.content.endswith(line(99)))
    assert log.lost == 0


@pytest.mark.parametrize("count", [2, 2000], ids=["little", "more than is read from the spool at once"])
@pytest.mark.parametrize("share", [1, 2], ids=["all", "a part"])
@pytest.mark.usefixtures("soon")
async def test_what_a_late_write_took_after_all_is_not_delivered_again(open_log: Open, count: int, share: int) -> None:
    lines = numbered(count)
    hanging = HangingOutput([60 * count // share])
    log = await open_log(hanging)
    assert all(await append(log, *lines))
    assert await append(log, line(9999)) == [True]
    hanging.let_go()
    await until(lambda: hanging.content.endswith(line(9999)))
    await until(log._idle.is_set)
    assert hanging.content == b"".join(lines) + line(9999)


@pytest.mark.usefixtures("hasty_callers")
async def test_what_a_late_write_takes_while_the_spool_hangs_is_not_lost(
    open_log: Open, hanging: HangingOutput, spool: FaultySpool
) -> None:
    log = await open_log(hanging)
    spool.hang()
    spool.refuses = BROKEN
    assert await append(log, line(1)) == [False]
    hanging.let_go()
    await until(lambda: hanging.content == line(1))
    spool.let_go()
    await until(log._idle.is_set)
    assert log.lost == 0
    assert hanging.content == line(1)


@pytest.mark.parametrize(
    ("outcome", "lost"),
    [pytest.param(1000, 0, id="all"), pytest.param(130, 3, id="a part"), pytest.param(BROKEN, 5, id="none")],
)
async def test_what_a_late_write_took_is_not_lost_what_it_did_not_take_is(
    open_log: Open, spool: FaultySpool, outcome: int | Exception, lost: int
) -> None:
    hanging = HangingOutput([outcome])
    spool.refuses = FULL
    log = await open_log(hanging)
    assert await append(log, *numbered(5)) == [False] * 5
    assert log.lost == 0, "nobody knows yet"
    hanging.let_go()
    spool.refuses = None
    assert await append(log, line(99)) == [True]
    await until(lambda: hanging.content.endswith(line(99)))
    assert log.lost == lost
    assert log.counted("events_lost_total") == lost
    assert hanging.content == b"".join(numbered(5)[: 5 - lost]) + line(99)


async def test_lines_that_come_while_a_write_hangs_and_the_spool_refuses_are_lost(
    open_log: Open, hanging: HangingOutput, spool: FaultySpool
) -> None:
    spool.refuses = FULL
    log = await open_log(hanging)
    assert await append(log, line(1)) == [False]
    assert await append(log, line(2), line(3)) == [False, False]
    assert log.lost == 2
    hanging.let_go()
    await until(lambda: hanging.content)
    assert (hanging.content, log.lost) == (line(1), 2)


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
    assert log.lost == 6
    assert log.counted("events_lost_total") == 6
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.message == (
        "events are being lost: neither the event log (fake: Input/output error) "
        "nor the spool (No space left on device) takes them"
    )


async def test_a_recovery_is_said_once_with_the_number_of_lost_lines(
    open_log: Open, spool: FaultySpool, caplog: pytest.LogCaptureFixture
) -> None:
    output = FakeOutput()
    output.refuses = BROKEN
    spool.refuses = FULL
    log = await open_log(output, look_after=0.02)
    await append(log, line(1), line(2))
    output.refuses = None
    assert await append(log, line(3)) == [True]
    await until(lambda: len(caplog.records) > 1)
    await asyncio.sleep(0.1)  # several looks: nothing more is to be said
    assert caplog.messages[1:] == ["no event was lost lately; 2 were lost so far"]


async def test_a_failure_after_a_recovery_is_said_again(
    open_log: Open, spool: FaultySpool, caplog: pytest.LogCaptureFixture
) -> None:
    output = FakeOutput()
    spool.refuses = FULL
    log = await open_log(output, look_after=0.02)
    for _ in range(2):
        caplog.clear()
        output.refuses = BROKEN
        assert await append(log, line(1)) == [False]
        output.refuses = None
        await until(lambda: len(caplog.records) > 1)
        assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert log.lost == 2


async def test_a_spool_that_breaks_unexpectedly_keeps_nobody_waiting(
    open_log: Open, spool: FaultySpool, caplog: pytest.LogCaptureFixture
) -> None:
    output = FakeOutput()
    output.refuses = BROKEN
    spool.refuses = RuntimeError("secret")
    log = await open_log(output)
    assert await append(log, line(1)) == [False]
    assert "nor the spool (RuntimeError in spools.py:" in caplog.text
    assert "secret" not in caplog.text
    assert log.lost == 1


@pytest.mark.usefixtures("soon")
async def test_a_spool_that_breaks_while_it_is_read_is_tried_again(
    open_log: Open, spool: FaultySpool, caplog: pytest.LogCaptureFixture
) -> None:
    output = FakeOutput([FULL])
    spool.unreadable = RuntimeError("secret")
    log = await open_log(output)
    assert await append(log, line(1)) == [True]
    await until(lambda: "the spool failed unexpectedly: RuntimeError in spools.py:" in caplog.text)
    assert await append(log, line(2)) == [True]
    spool.unreadable = None
    await until(lambda: output.content == line(1) + line(2))
    assert "secret" not in caplog.text
    assert log.lost == 0


async def test_new_lines_are_answered_in_time_while_the_spool_cannot_be_read(
    open_log: Open, spool: FaultySpool
) -> None:
    loop = asyncio.get_running_loop()
    output = FakeOutput([FULL])
    spool.unreadable = OSError(errno.EMFILE, "Too many open files")
    log = await open_log(output)
    lines = numbered(10)
    for number in range(10):
        started = loop.time()
        assert await append(log, lines[number]) == [True]
        assert loop.time() - started < 0.4, "half a second is what it waits before it reads again"
    spool.unreadable = None
    await until(lambda: output.content == b"".join(lines))


@pytest.mark.usefixtures("hasty_callers")
async def test_a_spool_that_hangs_delays_nobody(open_log: Open, spool: FaultySpool) -> None:
    loop = asyncio.get_running_loop()
    output = FakeOutput()
    output.refuses = FULL
    log = await open_log(output)
    spool.hang()
    started = loop.time()
    assert await append(log, line(1), line(2)) == [False, False]
    assert ANSWER_WITHIN * 0.9 <= loop.time() - started < SOON
    assert log.lost == 0, "the disk may still take them"
    started = loop.time()
    assert await append(log, line(3)) == [False]
    assert loop.time() - started < SOON
    assert log.lost == 0, "it is kept until the disk answers"
    output.refuses = None
    spool.let_go()
    await until(lambda: output.content == line(1) + line(2) + line(3))
    assert log.lost == 0


@pytest.mark.usefixtures("hasty_callers")
async def test_no_more_than_so_many_lines_are_kept_while_the_spool_hangs(
    open_log: Open, spool: FaultySpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.events.log.MAX_KEPT", 2)
    output = FakeOutput()
    output.refuses = FULL
    log = await open_log(output)
    spool.hang()
    assert await append(log, line(1)) == [False]
    assert await append(log, *(line(number) for number in range(2, 7))) == [False] * 5
    await until(lambda: log.lost == 3)
    output.refuses = None
    spool.let_go()
    await until(lambda: output.content == line(1) + line(5) + line(6))
    assert log.lost == 3


@pytest.mark.usefixtures("hasty_callers")
async def test_a_spool_that_hangs_and_then_refuses_has_lost_what_it_was_given(
    open_log: Open, spool: FaultySpool
) -> None:
    output = FakeOutput()
    output.refuses = FULL
    log = await open_log(output)
    spool.hang()
    spool.refuses = BROKEN
    assert await append(log, line(1), line(2)) == [False, False]
    spool.let_go()
    await until(lambda: log.lost == 2)
    output.refuses = None
    assert await append(log, line(3)) == [True]
    assert (output.content, log.lost) == (line(3), 2)


@pytest.mark.usefixtures("hasty_callers")
async def test_when_log_and_spool_hang_everybody_is_answered(
    open_log: Open, hanging: HangingOutput, spool: FaultySpool
) -> None:
    loop = asyncio.get_running_loop()
    log = await open_log(hanging)
    spool.hang()
    started = loop.time()
    taken = []
    for number in range(5):
        taken.append(log.append(line(number)))
        await asyncio.sleep(0.01)
    assert await asyncio.gather(*taken) == [False] * 5
    assert loop.time() - started < SOON
    hanging.let_go()
    spool.let_go()
    await until(log._idle.is_set)
    occurred = first_occurrences(hanging.content)
    assert len(occurred) + log.lost == 5
    assert occurred == sorted(occurred)


@pytest.mark.usefixtures("patient_log")
async def test_both_on_a_full_disk_lose_exactly_what_they_say(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with small_disk(directory):
        path = directory / "events.log"
        log = Log(LogFile(str(path)), Spool(str(directory / "spool"), 1 << 30), look_after=0.02)
        await log.start()
        assert await append(log, line(1)) == [True]
        ballast = fill(directory)
        path_had = path.read_bytes()
        answers = []
        for number in range(20):
            answers += await append(log, *numbered(10, length=1000, start=number * 10))
        assert log.problem == "No space left on device"
        assert log.lost == answers.count(False)
        ballast.unlink()
        await until(lambda: log.problem is None)
        assert await append(log, line(999)) == [True]
        await until(lambda: path.read_bytes().endswith(line(999)))
        kept = [content for content, answer in zip(numbered(200, length=1000), answers, strict=True) if answer]
        assert path.read_bytes() == path_had + b"".join(kept) + line(999)
        await until(lambda: any("were lost so far" in message for message in caplog.messages))
        await asyncio.wait_for(log.close(), TIMEOUT)
    assert sum("events are being lost" in message for message in caplog.messages) == 1


async def test_a_spool_at_its_bound_refuses_and_says_why(open_log: Open, directory: Path) -> None:
    output = FakeOutput()
    output.refuses = FULL
    log = await open_log(output, Spool(str(directory), 10_000))
    assert await append(log, *numbered(9, length=1000)) == [True] * 9
    assert log.problem == "it holds EVENT_SPOOL_MAX_BYTES"
    assert await append(log, *numbered(2, length=1000, start=9)) == [False] * 2
    assert log.lost == 2
    output.refuses = None
    await until(lambda: output.content == b"".join(numbered(9, length=1000)))
    assert await append(log, line(99)) == [True]


async def test_a_disk_that_does_not_answer_is_a_problem_until_it_does(
    open_log: Open, spool: FaultySpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "START_WITHIN", 0.01)
    log = await open_log(FakeOutput(), look_after=0.001)
    await until(lambda: log.problem is None)
    spool.hang()
    await until(lambda: log.problem == "its disk does not answer")
    spool.let_go()
    await until(lambda: log.problem is None)


@pytest.mark.usefixtures("patient_log")
async def test_a_disk_that_does_not_answer_does_not_keep_the_service_from_starting(
    open_log: Open, spool: FaultySpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "START_WITHIN", 0.01)
    spool.hang()
    output = FakeOutput()
    log = await open_log(output)
    assert log.problem == "not opened yet"
    assert await append(log, line(1)) == [True]
    assert output.content == line(1)


# --- What other processes left ---------------------------------------------------------------------------------------


async def test_what_was_left_is_delivered_at_the_start_before_anything_new(open_log: Open, directory: Path) -> None:
    leave(directory, line(1) + line(2), line(3) + b'{"event":"to')
    leave(directory, line(4))
    output = FakeOutput()
    log = await open_log(output)
    assert await append(log, line(5)) == [True]
    await until(log._idle.is_set)
    assert output.content == b"".join(numbered(5, start=1))
    assert log.counted("events_replayed_total") == 5
    assert len(claims(directory)) == 1


async def test_what_is_left_later_is_delivered_soon(open_log: Open, directory: Path) -> None:
    output = FakeOutput()
    log = await open_log(output, look_after=0.01)
    await append(log, line(1))
    leave(directory, line(2))
    await until(lambda: output.content == line(1) + line(2))


async def test_what_is_adopted_in_the_middle_of_a_delivery_is_delivered_whole(
    open_log: Open, directory: Path, pipe: Pipe
) -> None:
    filling = pipe.fill()
    log = await open_log(pipe.output, look_after=0.01)
    lines, left = numbered(10), numbered(20, start=100, length=80)
    assert all(await append(log, *lines))
    leave(directory, b"".join(left))
    await until(lambda: log.counted("spool_bytes") == 600 + 1600)
    content = b""

    def read() -> bool:
        nonlocal content
        content += pipe.read()
        return log._idle.is_set()

    await until(read)
    assert sorted((content + pipe.read())[len(filling) :].splitlines(keepends=True)) == sorted([*lines, *left])
    assert log.counted("spool_bytes") == 0


async def test_two_logs_on_one_spool_directory_leave_each_other_alone(open_log: Open, directory: Path) -> None:
    outputs = FakeOutput(), FakeOutput()
    logs = [await open_log(output, Spool(str(directory), 1 << 30), look_after=0.001) for output in outputs]
    outputs[0].refuses = FULL
    assert await append(logs[0], line(1)) == [True]
    assert await append(logs[1], line(2)) == [True]
    for log in logs:
        await asyncio.wait_for(log._in_spool(log._spool.look_after), TIMEOUT)
    assert outputs[1].content == line(2)
    outputs[0].refuses = None
    await until(lambda: outputs[0].content == line(1))


# --- Closing ---------------------------------------------------------------------------------------------------------


async def closed(log: EventLog) -> float:
    """Close the log; give how many seconds that took."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    await asyncio.wait_for(log.close(), TIMEOUT)
    return loop.time() - started


async def opened(output: Output, spool: Spool) -> Log:
    """A log that the test itself closes."""
    log = Log(output, spool)
    await log.start()
    return log


@pytest.mark.parametrize("may_block", [False, True], ids=["in the loop", "in a thread"])
@pytest.mark.usefixtures("patient_log")
async def test_closing_writes_what_waits(directory: Path, *, may_block: bool) -> None:
    output = FakeOutput(may_block=may_block)
    log = await opened(output, Spool(str(directory), 1 << 30))
    taken = log.append(line(1))
    await closed(log)
    assert taken.result()
    assert (output.content, output.closed) == (line(1), True)
    assert claims(directory) == []


async def test_closing_delivers_what_can_be_delivered(directory: Path, pipe: Pipe) -> None:
    pipe.fill()
    log = await opened(pipe.output, Spool(str(directory), 1 << 30))
    lines = numbered(20)
    assert all(await append(log, *lines))
    closing = asyncio.create_task(log.close())
    await asyncio.sleep(0)
    pipe.read()
    await asyncio.wait_for(closing, TIMEOUT)
    assert pipe.read() == b"".join(lines)
    assert claims(directory) == []


async def test_what_cannot_be_delivered_waits_for_the_next_start(
    open_log: Open, directory: Path, pipe: Pipe, caplog: pytest.LogCaptureFixture
) -> None:
    pipe.fill()
    log = await opened(pipe.output, Spool(str(directory), 1 << 30))
    lines = numbered(20)
    assert all(await append(log, *lines))
    assert await closed(log) < 5
    assert caplog.messages[-1] == "1200 bytes of events wait in the spool for the next start"
    output = FakeOutput()
    await open_log(output)
    await until(lambda: output.content == b"".join(lines))


async def test_a_line_that_is_undecided_at_the_end_goes_to_the_spool(
    open_log: Open, directory: Path, pipe: Pipe
) -> None:
    pipe.fill()
    log = await opened(pipe.output, Spool(str(directory), 1 << 30))
    taken = log.append(line(1))
    await closed(log)
    assert taken.result()
    output = FakeOutput()
    await open_log(output)
    await until(lambda: output.content == line(1))


async def test_closing_does_not_wait_for_a_log_that_hangs(
    open_log: Open, directory: Path, hanging: HangingOutput
) -> None:
    log = await opened(hanging, Spool(str(directory), 1 << 30))
    assert await append(log, line(1)) == [True]
    assert await closed(log) < 5
    assert not hanging.closed
    output = FakeOutput()
    await open_log(output)
    await until(lambda: output.content == line(1))


@pytest.mark.usefixtures("hasty_callers")
async def test_closing_does_not_wait_for_a_spool_that_hangs(spool: FaultySpool) -> None:
    output = FakeOutput()
    output.refuses = FULL
    log = await opened(output, spool)
    spool.hang()
    assert await append(log, line(1)) == [False]
    assert await closed(log) < 5
    assert output.closed
    assert log.lost == 1


async def test_a_line_that_nobody_could_take_before_the_end_is_lost(
    spool: FaultySpool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(log_module, "DRAIN_WITHIN", 0.001)
    output = FakeOutput()
    output.refuses = FULL
    log = await opened(output, spool)
    spool.hang()
    taken = [log.append(line(1)), log.append(line(2))]
    await closed(log)
    assert [future.result() for future in taken] == [False, False]
    assert log.lost == 2
    assert "nor the spool (the process ends) takes them" in caplog.text


@pytest.mark.parametrize("kind", ["pipe", "file"])
async def test_closing_closes_every_descriptor_and_ends_every_thread(
    directory: Path, tmp_path: Path, pipe: Pipe, kind: str
) -> None:
    leave(directory, line(1), line(2))
    before, threads = open_files(), set(threading.enumerate())
    output: Output = pipe.output if kind == "pipe" else LogFile(str(tmp_path / "events.log"))
    if kind == "pipe":
        before -= 1  # it is open already
        pipe.fill()
    log = await opened(output, Spool(str(directory), 1 << 30))
    await append(log, line(3))
    await closed(log)
    await until(lambda: open_files() == before)
    await until(lambda: set(threading.enumerate()) <= threads)


async def test_callers_who_were_cancelled_are_no_hindrance(directory: Path, pipe: Pipe) -> None:
    pipe.fill()
    log = await opened(pipe.output, Spool(str(directory), 1 << 30))
    for future in [log.append(line(number)) for number in range(3)]:
        future.cancel()
    await closed(log)
    assert contents(directory) == [b"".join(numbered(3))]
    assert log.lost == 0


async def test_closing_an_idle_log_closes_the_output(directory: Path) -> None:
    output = FakeOutput()
    await closed(await opened(output, Spool(str(directory), 1 << 30)))
    assert output.closed

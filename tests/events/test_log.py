"""Pipes and files are real; a fake output stands in only for what a kernel does rarely."""

import asyncio
import errno
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.events.log import MAX_LINE, PATIENCE, EventLog
from service.events.outputs import LogFile, Output, StandardOutput

FULL = OSError(errno.ENOSPC, "No space left on device")
BROKEN = OSError(errno.EIO, "Input/output error")


class FakeOutput:
    """Takes what it is told to take.

    Args:
        takes: for each write in turn how many bytes it takes at most, or what it raises; after that it takes all.
        moves: before which writes, counted from 0, the output turns out to be a new file.
    """

    name = "fake"

    def __init__(
        self, takes: Iterable[int | Exception] = (), *, moves: Iterable[int] = (), max_write: int = 1 << 20
    ) -> None:
        self.max_write = max_write
        self.files = [b""]
        self.writes: list[bytes] = []
        self.closed = False
        self._takes = iter(takes)
        self._moves = set(moves)

    @property
    def content(self) -> bytes:
        return self.files[-1]

    def fileno(self) -> int:
        raise AssertionError("nothing waits for this output")

    def write(self, lines: bytes) -> int:
        self.writes.append(lines)
        takes = next(self._takes, len(lines))
        if isinstance(takes, Exception):
            raise takes
        self.files[-1] += lines[:takes]
        return min(takes, len(lines))

    def prepare(self) -> bytes:
        if len(self.writes) in self._moves:
            self._moves.remove(len(self.writes))
            self.files.append(b"")
        return b"\n" if self.content and not self.content.endswith(b"\n") else b""

    def close(self) -> None:
        self.closed = True


class CountingOutput:
    """Another output, which counts how often it is written to."""

    def __init__(self, output: Output) -> None:
        self.name, self.max_write = output.name, output.max_write
        self.fileno, self.prepare, self.close = output.fileno, output.prepare, output.close
        self.tries = 0
        self._output = output

    def write(self, lines: bytes) -> int:
        self.tries += 1
        return self._output.write(lines)


class Pipe:
    """A small pipe with an event log at its writing end."""

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe()
        self.output = StandardOutput(self._writer)
        os.close(self._writer)

    def fill(self) -> bytes:
        """Stall it: write until it takes no more; give what has been written."""
        filling = b""
        while True:
            try:
                os.write(self.output.fileno(), b"#" * 4095 + b"\n")
            except BlockingIOError:
                return filling
            filling += b"#" * 4095 + b"\n"

    def drain(self) -> bytes:
        """Read what is in it."""
        os.set_blocking(self.reader, False)
        content = b""
        while True:
            try:
                content += os.read(self.reader, 1 << 20)
            except BlockingIOError:
                return content


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    os.close(pipe.reader)


Open = Callable[[Output], EventLog]


@pytest.fixture
async def open_log() -> AsyncIterator[Open]:
    """Opens a log that the test need not close."""
    logs: list[EventLog] = []

    def open_(output: Output) -> EventLog:
        logs.append(EventLog(output))
        return logs[-1]

    yield open_
    for log in logs:
        await asyncio.wait_for(log.close(), timeout=1)


async def append(log: EventLog, *lines: bytes) -> list[bool]:
    """Append lines in one turn of the loop."""
    return await asyncio.gather(*(log.append(line) for line in lines))


def numbered(count: int, length: int = 10) -> list[bytes]:
    return [b"%0*d\n" % (length - 1, number) for number in range(count)]


# --- What is a line --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"line", id="no newline"),
        pytest.param(b"two\nlines\n", id="two lines"),
        pytest.param(b"two\n\n", id="two newlines"),
        pytest.param(b"\nline", id="a newline in front"),
        pytest.param(b"#" * MAX_LINE + b"\n", id="one byte too long"),
    ],
)
async def test_what_is_not_one_line_is_refused(open_log: Open, line: bytes) -> None:
    output = FakeOutput()
    with pytest.raises(ValueError, match="not one line of at most 4095 bytes"):
        open_log(output).append(line)
    assert output.writes == []


@pytest.mark.parametrize("line", [b"\n", b"#" * (MAX_LINE - 1) + b"\n"], ids=["shortest", "longest"])
async def test_a_line_within_the_bounds_is_taken(open_log: Open, line: bytes) -> None:
    output = FakeOutput()
    assert await append(open_log(output), line) == [True]
    assert output.content == line


# --- Order and batches -----------------------------------------------------------------------------------------------


async def test_lines_leave_in_the_order_in_which_they_were_appended(open_log: Open, tmp_path: Path) -> None:
    path = tmp_path / "events.log"
    log = open_log(LogFile(str(path)))
    lines = numbered(300)
    for turn in range(3):
        assert all(await append(log, *lines[turn * 100 : turn * 100 + 100]))
    assert path.read_bytes() == b"".join(lines)


async def test_a_line_is_with_the_kernel_when_its_append_is_done(open_log: Open, tmp_path: Path) -> None:
    path = tmp_path / "events.log"
    assert await open_log(LogFile(str(path))).append(b"line\n")
    assert path.read_bytes() == b"line\n"


async def test_the_lines_of_one_turn_of_the_loop_go_out_in_one_write(open_log: Open) -> None:
    output = FakeOutput()
    log = open_log(output)
    await append(log, b"1\n", b"2\n")
    await append(log, b"3\n")
    assert output.writes == [b"1\n2\n", b"3\n"]


async def test_batches_are_cut_at_line_ends_within_what_the_output_takes(open_log: Open) -> None:
    output = FakeOutput(max_write=4096)
    lines = numbered(20, length=1500)
    assert all(await append(open_log(output), *lines))
    assert output.writes == [b"".join(lines[start : start + 2]) for start in range(0, 20, 2)]


async def test_a_batch_that_fits_exactly_is_one_write(open_log: Open) -> None:
    output = FakeOutput(max_write=4096)
    await append(open_log(output), *numbered(4, length=1024))
    assert list(map(len, output.writes)) == [4096]


async def test_a_pipe_gets_every_line(open_log: Open, pipe: Pipe) -> None:
    lines = numbered(40, length=700)
    assert all(await append(open_log(pipe.output), *lines))
    assert pipe.drain() == b"".join(lines)


# --- Short writes ----------------------------------------------------------------------------------------------------


@given(
    lengths=st.lists(st.integers(2, 12), min_size=1, max_size=12),
    takes=st.lists(st.one_of(st.integers(0, 14), st.just(FULL), st.just(BROKEN)), max_size=30),
)
def test_whatever_the_output_takes_a_line_that_was_taken_stands_alone_and_whole(
    lengths: list[int], takes: list[int | OSError]
) -> None:
    """What is not such a line is the beginning of one: nothing is glued, nothing comes out of order."""

    async def write_each() -> list[bool]:
        log = EventLog(output)
        taken: list[bool] = []
        for start in range(0, len(lines), 2):
            taken += await append(log, *(line + b"\n" for line in lines[start : start + 2]))
        assert log.lost == taken.count(False)
        return taken

    output = FakeOutput(takes)
    lines = [b"%c" % (65 + number) * (length - 1) for number, length in enumerate(lengths)]
    taken = asyncio.run(write_each())
    written = output.content.split(b"\n")
    assert all(line in written for line, was_taken in zip(lines, taken, strict=True) if was_taken)
    assert all(any(line.startswith(piece) for line in lines) for piece in written)
    assert written[:-1] == sorted(written[:-1], key=lambda piece: piece[:1])


async def test_a_line_that_was_torn_in_a_batch_is_written_again_as_a_whole(open_log: Open) -> None:
    output = FakeOutput([9])
    assert await append(open_log(output), b"first\n", b"second\n", b"third\n") == [True, True, True]
    assert output.content == b"first\nsec\nsecond\nthird\n"


async def test_no_line_is_glued_to_a_torn_one(open_log: Open) -> None:
    output = FakeOutput([3])
    log = open_log(output)
    assert await append(log, b"first\n") == [False]
    assert await append(log, b"second\n") == [True]
    assert output.content == b"fir\nsecond\n"


async def test_no_line_is_glued_to_what_a_process_before_us_has_torn(tmp_path: Path) -> None:
    path = tmp_path / "events.log"
    path.write_bytes(b"whole\nto")
    log = EventLog(LogFile(str(path)))
    assert await append(log, b"line\n") == [True]
    await log.close()
    assert path.read_bytes() == b"whole\nto\nline\n"


async def test_a_line_before_the_torn_one_counts_as_taken(open_log: Open) -> None:
    log = open_log(FakeOutput([9, FULL]))
    assert await append(log, b"first\n", b"second\n", b"third\n") == [True, False, False]
    assert log.lost == 2


async def test_a_torn_line_stays_behind_when_the_file_is_rotated(open_log: Open) -> None:
    """The old file keeps the torn beginning; the line is written whole into the new one."""
    output = FakeOutput([9], moves=[1])
    assert await append(open_log(output), b"first\n", b"second\n") == [True, True]
    assert output.files == [b"first\nsec", b"second\n"]


# --- Refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("refusal", "problem"),
    [
        pytest.param(FULL, "No space left on device", id="ENOSPC"),
        pytest.param(BROKEN, "Input/output error", id="EIO"),
        pytest.param(0, "only a part of a line was taken", id="nothing was written"),
        pytest.param(OSError("no number"), "OSError in test_log.py:", id="an error without a number"),
        pytest.param(RuntimeError("a mistake of ours"), "RuntimeError in test_log.py:", id="whatever else"),
    ],
)
async def test_a_refused_write_refuses_its_lines_and_says_so_once(
    open_log: Open, refusal: int | Exception, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    log = open_log(FakeOutput([refusal] * 3))
    for _ in range(3):
        assert await append(log, b"1\n", b"2\n") == [False, False]
    assert log.lost == 6
    (said,) = caplog.messages
    assert said.startswith(f"the event log (fake) takes no lines: {problem}")
    assert said.endswith("; events are being lost")


async def test_a_recovery_is_said_once_with_the_number_of_lost_lines(
    open_log: Open, caplog: pytest.LogCaptureFixture
) -> None:
    log = open_log(FakeOutput([FULL, FULL]))
    taken = [(await append(log, b"line\n"))[0] for _ in range(5)]
    assert taken == [False, False, True, True, True]
    assert [(record.levelno, record.message) for record in caplog.records] == [
        (logging.ERROR, "the event log (fake) takes no lines: No space left on device; events are being lost"),
        (logging.WARNING, "the event log (fake) takes lines again; 2 were lost so far"),
    ]


async def test_a_failure_after_a_recovery_is_said_again(open_log: Open, caplog: pytest.LogCaptureFixture) -> None:
    log = open_log(FakeOutput([FULL, 100, FULL]))
    for _ in range(3):
        await append(log, b"line\n")
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING", "ERROR"]
    assert log.lost == 2


async def test_what_works_says_nothing(open_log: Open, caplog: pytest.LogCaptureFixture) -> None:
    log = open_log(FakeOutput())
    await append(log, b"line\n", b"line\n")
    assert log.lost == 0
    assert caplog.records == []


async def test_a_full_disk_refuses(open_log: Open, caplog: pytest.LogCaptureFixture) -> None:
    assert await append(open_log(LogFile("/dev/full")), b"line\n") == [False]
    assert "(/dev/full) takes no lines: No space left on device" in caplog.text


async def test_a_reader_that_has_gone_refuses(open_log: Open) -> None:
    pipe = Pipe()
    os.close(pipe.reader)
    log = open_log(pipe.output)
    assert await append(log, b"1\n", b"2\n") == [False, False]
    assert log.lost == 2


async def test_a_directory_that_has_gone_refuses_until_it_is_back(open_log: Open, tmp_path: Path) -> None:
    path = tmp_path / "log" / "events.log"
    path.parent.mkdir()
    log = open_log(LogFile(str(path)))
    path.unlink()
    path.parent.rmdir()
    assert await append(log, b"1\n") == [False]
    path.parent.mkdir()
    assert await append(log, b"2\n") == [True]
    assert path.read_bytes() == b"2\n"


async def test_a_caller_who_no_longer_waits_holds_nobody_up(open_log: Open) -> None:
    """A server that shuts down cancels its requests."""
    output = FakeOutput()
    log = open_log(output)
    first, second = log.append(b"1\n"), log.append(b"2\n")
    first.cancel()
    assert await asyncio.wait_for(second, timeout=1)
    assert await append(log, b"3\n") == [True]
    assert output.content == b"1\n2\n3\n"


async def test_a_caller_who_no_longer_waits_for_a_refused_line_holds_nobody_up(open_log: Open) -> None:
    log = open_log(FakeOutput([FULL]))
    first, second = log.append(b"1\n"), log.append(b"2\n")
    first.cancel()
    assert not await asyncio.wait_for(second, timeout=1)
    assert await append(log, b"3\n") == [True]


# --- Rotation --------------------------------------------------------------------------------------------------------


async def test_the_line_after_a_rotation_goes_to_the_new_file(open_log: Open, tmp_path: Path) -> None:
    path = tmp_path / "events.log"
    log = open_log(LogFile(str(path)))
    await append(log, b"1\n")
    path.rename(tmp_path / "events.log.1")
    await append(log, b"2\n")
    path.unlink()
    await append(log, b"3\n")
    assert (tmp_path / "events.log.1").read_bytes() == b"1\n"
    assert path.read_bytes() == b"3\n"


# --- A reader that is behind -----------------------------------------------------------------------------------------


async def test_a_stalled_pipe_refuses_after_the_patience_while_the_loop_turns(open_log: Open, pipe: Pipe) -> None:
    loop = asyncio.get_running_loop()
    filling = pipe.fill()
    log = open_log(pipe.output)
    started, turns = loop.time(), 0
    taken = log.append(b"line\n")
    while not taken.done():
        await asyncio.sleep(0)
        turns += 1
    assert PATIENCE <= loop.time() - started < 10 * PATIENCE
    assert turns > 50
    assert not taken.result()
    assert log.lost == 1
    assert pipe.drain() == filling


async def test_lines_that_wait_are_delivered_in_order_when_the_reader_comes_back(
    open_log: Open, pipe: Pipe, caplog: pytest.LogCaptureFixture
) -> None:
    filling = pipe.fill()
    log = open_log(pipe.output)
    taken = []
    for line in numbered(10):
        taken.append(log.append(line))
        await asyncio.sleep(0)
    assert not any(future.done() for future in taken)
    assert pipe.drain() == filling
    assert all(await asyncio.gather(*taken))
    assert pipe.drain() == b"".join(numbered(10))
    assert caplog.records == []


async def test_each_line_has_its_own_patience(open_log: Open, pipe: Pipe) -> None:
    filling = pipe.fill()
    log = open_log(pipe.output)
    first = log.append(b"1\n")
    await asyncio.wait({first}, timeout=PATIENCE / 2)
    second = log.append(b"2\n")
    assert not await first
    assert not second.done()
    assert pipe.drain() == filling
    assert await second
    assert pipe.drain() == b"2\n"


async def test_a_reader_that_comes_back_too_late_gets_the_lines_after_the_lost_ones(
    open_log: Open, pipe: Pipe, caplog: pytest.LogCaptureFixture
) -> None:
    pipe.fill()
    log = open_log(pipe.output)
    assert await append(log, *numbered(20)) == [False] * 20
    pipe.drain()
    assert await append(log, b"after\n") == [True]
    assert pipe.drain() == b"after\n"
    assert log.lost == 20
    assert caplog.messages == [
        "the event log (standard output) takes no lines: its reader is behind; events are being lost",
        "the event log (standard output) takes lines again; 20 were lost so far",
    ]


async def test_a_reader_that_is_behind_is_not_tried_again_for_each_line(open_log: Open, pipe: Pipe) -> None:
    output = CountingOutput(pipe.output)
    pipe.fill()
    log = open_log(output)
    assert await append(log, b"1\n", b"2\n") == [False, False]
    assert output.tries == 1


async def test_a_reader_that_has_come_back_is_no_longer_watched(open_log: Open, pipe: Pipe) -> None:
    """The loop would turn for ever: an empty pipe is always writable."""
    pipe.fill()
    taken = open_log(pipe.output).append(b"line\n")
    await asyncio.sleep(0)
    pipe.drain()
    assert await taken
    assert not asyncio.get_running_loop().remove_writer(pipe.output.fileno())


async def test_a_line_that_was_taken_in_time_is_not_given_up_later(
    open_log: Open, pipe: Pipe, caplog: pytest.LogCaptureFixture
) -> None:
    pipe.fill()
    log = open_log(pipe.output)
    taken = log.append(b"line\n")
    await asyncio.sleep(0)
    pipe.drain()
    assert await taken
    await asyncio.sleep(PATIENCE * 1.2)  # nothing can be waited for: nothing is to happen
    assert log.lost == 0
    assert caplog.records == []


async def test_a_reader_that_goes_while_a_line_waits_refuses_it_at_once(open_log: Open) -> None:
    pipe = Pipe()
    pipe.fill()
    log = open_log(pipe.output)
    taken = log.append(b"line\n")
    await asyncio.sleep(0)
    os.close(pipe.reader)
    assert not await asyncio.wait_for(taken, timeout=PATIENCE / 2)


async def test_a_reader_that_is_slow_but_steady_gets_every_line(open_log: Open, pipe: Pipe) -> None:
    """It leaves the pipe full time and again, never for long."""
    expected = pipe.fill()
    log = open_log(pipe.output)
    lines = numbered(64, length=2048)
    taken = asyncio.gather(*map(log.append, lines))
    content = b""
    while not taken.done():
        content += os.read(pipe.reader, 8192)
        await asyncio.sleep(0)
    assert all(await taken)
    assert content + pipe.drain() == expected + b"".join(lines)


# --- Closing ---------------------------------------------------------------------------------------------------------


async def test_closing_writes_what_waits() -> None:
    output = FakeOutput()
    log = EventLog(output)
    taken = log.append(b"line\n")
    await log.close()
    assert taken.result()
    assert (output.content, output.closed) == (b"line\n", True)


async def test_closing_waits_no_longer_than_the_patience_for_a_stalled_reader(pipe: Pipe) -> None:
    loop = asyncio.get_running_loop()
    pipe.fill()
    log = EventLog(pipe.output)
    taken = log.append(b"line\n")
    started = loop.time()
    await log.close()
    assert loop.time() - started < 10 * PATIENCE
    assert not taken.result()


async def test_closing_an_idle_log_closes_the_output() -> None:
    output = FakeOutput()
    await EventLog(output).close()
    assert output.closed

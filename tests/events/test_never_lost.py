"""The promise itself, over whatever log and spool may do: all real but for what write(2) answers."""

import asyncio
import dataclasses
import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.events.log import EventLog, Timeouts
from service.events.outputs import LogFile, Output, Stream
from service.events.spool import Spool
from service.telemetry.metrics import Metrics
from tests.support.processes import TIMEOUT
from tests.support.spools import line

ERRORS = [errno.ENOSPC, errno.EIO, errno.EPIPE, errno.EAGAIN]
log_answers = st.lists(st.one_of(st.integers(0, 400), st.sampled_from(ERRORS).map(lambda number: -number)), max_size=25)
spool_answers = st.lists(
    st.one_of(st.integers(0, 400), st.sampled_from([errno.ENOSPC, errno.EIO]).map(lambda number: -number)), max_size=12
)
batches = st.lists(st.integers(1, 5), min_size=1, max_size=8)

# A slow machine must not make a write late: that is another test's subject.
HASTE = Timeouts(answer=2.0 * TIMEOUT, output=1.0 * TIMEOUT, retry=0.0005, look=0.001, drain=0.002)
HEALTHY = Timeouts(answer=2.0 * TIMEOUT, output=1.0 * TIMEOUT, drain=TIMEOUT)


class Kernel:
    """Answers write(2): how many bytes it takes at most, or a negative errno; after the last answer it takes all.

    Args:
        log: the answers for the event log.
        spool: the answers for what is in a spool.
    """

    def __init__(self, log: list[int], spool: list[int]) -> None:
        self._log, self._spool = iter(log), iter(spool)
        self._write = os.write

    def write(self, descriptor: int, data: bytes) -> int:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        answer = None
        if path.name.startswith("events.log"):
            answer = next(self._log, None)
        elif path.suffix == ".jsonl":
            answer = next(self._spool, None)
        if answer is None:
            return self._write(descriptor, data)
        if answer < 0:
            raise OSError(-answer, os.strerror(-answer))
        return self._write(descriptor, data[: max(answer, 1)])


@contextmanager
def faulty(kernel: Kernel) -> Iterator[None]:
    """Let the kernel's answers count, and the end wait for the disk: the next process is to find the spool free."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", kernel.write)
        patch.setattr("service.events.log.CLOSE_TIMEOUT", TIMEOUT)
        yield


async def told(output: Output, spool: Path, sizes: list[int], timeouts: Timeouts) -> tuple[list[bool], int]:
    """Append batches of lines; give what was told of each line, and how many the log says are lost."""
    log = EventLog(output, Spool(str(spool), 1 << 30), Metrics(), timeouts)
    await log.start()
    answers: list[bool] = []
    for size in sizes:
        lines = [line(len(answers) + number, 100) for number in range(size)]
        answers += await asyncio.wait_for(asyncio.gather(*map(log.append, lines)), TIMEOUT)
    await asyncio.wait_for(log.close(), TIMEOUT)
    return answers, log.lost


@settings(max_examples=150, deadline=None)
@given(sizes=batches, log=log_answers, spool=spool_answers)
@example(sizes=[3, 3], log=[150, -errno.EIO], spool=[50, -errno.ENOSPC])
def test_what_was_told_to_be_recorded_is_in_the_log_in_order(
    sizes: list[int], log: list[int], spool: list[int]
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path, spools = Path(directory, "events.log"), Path(directory, "spool")
        with faulty(Kernel(log, spool)):
            answers, lost = asyncio.run(told(LogFile(str(path), "a file"), spools, sizes, HASTE))
        # The next process, on a healthy machine.
        asyncio.run(told(LogFile(str(path), "a file"), spools, [], HEALTHY))
        expected = [line(number, 100) for number in range(len(answers))]
        written = path.read_bytes().splitlines(keepends=True)
        for torn in set(written) - set(expected):
            assert any(one.startswith(torn.removesuffix(b"\n")) for one in expected), "torn, but never glued"
            written = [one for one in written if one != torn]
        recorded = [one for one, answer in zip(expected, answers, strict=True) if answer]
        first = list(dict.fromkeys(written))
        assert set(recorded) <= set(first)
        assert first == sorted(first, key=expected.index)
        assert lost == len(set(expected) - set(first))
        with suppress(FileNotFoundError):
            assert list(spools.iterdir()) == []


@settings(max_examples=60, deadline=None)
@given(sizes=batches, log=st.lists(st.one_of(st.integers(1, 400), st.just(-errno.EAGAIN)), max_size=25))
def test_a_stream_that_takes_what_it_likes_gets_each_line_once(sizes: list[int], log: list[int]) -> None:
    """As a terminal or a socket does; the file behind the descriptor only remembers."""
    with tempfile.TemporaryDirectory() as directory:
        path, spools = Path(directory, "events.log"), Path(directory, "spool")
        with path.open("wb") as file:
            output = Stream(file.fileno(), "a stream")
        with faulty(Kernel(log, [])):
            answers, _ = asyncio.run(told(output, spools, sizes, dataclasses.replace(HASTE, drain=TIMEOUT)))
        assert all(answers)
        assert path.read_bytes() == b"".join(line(number, 100) for number in range(len(answers)))

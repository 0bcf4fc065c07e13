"""One carrier at a time, turned by hand; how it works together with the log is tested there."""

import asyncio
import errno
from collections.abc import AsyncIterator, Iterator

import pytest

from service.events import replay as replay_module
from service.events.outputs import Output
from service.events.replay import Replay
from service.events.thread import CallThread
from tests.support.outputs import FakeOutput, HangingOutput, Pipe
from tests.support.processes import TIMEOUT
from tests.support.spools import numbered

FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.output.close()
    pipe.close()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once instead of after half a second."""
    monkeypatch.setattr(replay_module, "RETRY_AFTER", 0.001)


class Carrier:
    """A replay, and whether it has woken anybody."""

    def __init__(self, output: Output, lines: list[bytes]) -> None:
        self.woken = asyncio.Event()
        self.thread = CallThread("log") if output.may_block else None
        self.replay = Replay(output, self.thread, self.woken.set)
        self.replay.waiting = b"".join(lines)

    async def go_on_when_woken(self) -> bytes:
        await asyncio.wait_for(self.woken.wait(), TIMEOUT)
        self.woken.clear()
        return self.replay.go_on()

    def close(self) -> None:
        self.replay.stop()
        if self.thread is not None:
            self.thread.stop()


@pytest.fixture
async def carriers() -> AsyncIterator[list[Carrier]]:
    carriers: list[Carrier] = []
    yield carriers
    for carrier in carriers:
        carrier.close()


LINES = numbered(6, length=1000)


async def test_an_output_that_takes_all_gets_all_at_once(carriers: list[Carrier]) -> None:
    output = FakeOutput(max_write=4096)
    carriers.append(carrier := Carrier(output, LINES))
    assert carrier.replay.go_on() == b"".join(LINES)
    assert output.writes == [b"".join(LINES[:4]), b"".join(LINES[4:])]
    assert carrier.replay.waiting == b""


async def test_with_nothing_to_carry_nothing_is_written(carriers: list[Carrier]) -> None:
    output = FakeOutput()
    carriers.append(carrier := Carrier(output, []))
    assert carrier.replay.go_on() == b""
    assert output.writes == []


async def test_an_output_in_a_thread_is_called_there_one_write_at_a_time(carriers: list[Carrier]) -> None:
    output = FakeOutput(may_block=True, max_write=4096)
    carriers.append(carrier := Carrier(output, LINES))
    assert carrier.replay.go_on() == b""
    assert await carrier.go_on_when_woken() == b"".join(LINES[:4])
    assert carrier.replay.go_on() == b""
    assert await carrier.go_on_when_woken() == b"".join(LINES[4:])
    assert output.threads == {"log"}


async def test_a_write_that_hangs_is_not_made_twice(carriers: list[Carrier]) -> None:
    output = HangingOutput()
    carriers.append(carrier := Carrier(output, LINES))
    assert [carrier.replay.go_on() for _ in range(3)] == [b"", b"", b""]
    output.let_go()
    assert await carrier.go_on_when_woken() == b"".join(LINES)
    assert output.writes == [b"".join(LINES)]


async def test_a_stalled_reader_is_waited_for(carriers: list[Carrier], pipe: Pipe) -> None:
    filling = pipe.fill()
    carriers.append(carrier := Carrier(pipe.output, LINES))
    assert carrier.replay.go_on() == b""
    assert carrier.replay.go_on() == b"", "it is watched already"
    assert not carrier.woken.is_set()
    assert pipe.read() == filling
    assert await carrier.go_on_when_woken() == b"".join(LINES)
    assert pipe.read() == b"".join(LINES)


async def test_what_was_taken_before_the_reader_was_behind_counts(carriers: list[Carrier], pipe: Pipe) -> None:
    lines = numbered(40, length=4000)
    carriers.append(carrier := Carrier(pipe.output, lines))
    taken = carrier.replay.go_on()
    assert 0 < len(taken) < 160_000
    assert taken + carrier.replay.waiting == b"".join(lines)
    assert pipe.read() == taken


@pytest.mark.parametrize("may_block", [False, True], ids=["in the loop", "in a thread"])
async def test_an_output_that_fails_is_tried_again(carriers: list[Carrier], *, may_block: bool) -> None:
    output = FakeOutput([FULL, 1000, FULL], may_block=may_block, max_write=1000)
    carriers.append(carrier := Carrier(output, LINES))
    carrier.woken.set()
    taken = b""
    while len(taken) < 6000:
        taken += await carrier.go_on_when_woken()
        if not carrier.replay.is_paused:
            carrier.woken.set()
    assert output.content == taken == b"".join(LINES)


async def test_a_reader_that_is_behind_in_a_thread_is_tried_again_later(carriers: list[Carrier]) -> None:
    output = FakeOutput([BlockingIOError()], may_block=True)
    carriers.append(carrier := Carrier(output, LINES))
    carrier.replay.go_on()
    assert await carrier.go_on_when_woken() == b""
    assert carrier.replay.is_paused
    assert await carrier.go_on_when_woken() == b""
    assert await carrier.go_on_when_woken() == b"".join(LINES)


async def test_while_it_is_paused_nothing_is_written(carriers: list[Carrier]) -> None:
    output = FakeOutput()
    carriers.append(carrier := Carrier(output, LINES))
    carrier.replay.pause()
    assert carrier.replay.go_on() == b""
    assert output.writes == []
    assert await carrier.go_on_when_woken() == b"".join(LINES)


async def test_a_stopped_one_watches_nothing_and_wakes_nobody(pipe: Pipe) -> None:
    """The loop would turn for ever: an empty pipe is always writable."""
    pipe.fill()
    stalled, paused = Carrier(pipe.output, LINES), Carrier(FakeOutput([FULL]), LINES)
    for carrier in (stalled, paused):
        carrier.replay.go_on()
        carrier.close()
    pipe.read()
    assert not asyncio.get_running_loop().remove_writer(pipe.output.fileno())
    await asyncio.sleep(0.01)  # nothing can be waited for: nothing is to happen
    assert not stalled.woken.is_set()
    assert not paused.woken.is_set()


async def test_a_write_that_fails_after_the_stop_is_nobodys_business() -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    output = HangingOutput([FULL])
    carrier = Carrier(output, LINES)
    carrier.replay.go_on()
    carrier.close()
    output.let_go()
    await asyncio.wait_for(carrier.woken.wait(), TIMEOUT)
    del carrier
    assert complaints == []

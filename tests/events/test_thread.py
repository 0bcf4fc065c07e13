"""A real thread beside a real event loop."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from service.events.log import CallThread
from tests.support.processes import TIMEOUT


class Gate:
    """A call that hangs until it is let go."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self.entered = threading.Event()

    def pass_through(self) -> str:
        self.entered.set()
        assert self._open.wait(TIMEOUT)
        return "through"

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


async def test_a_call_gives_what_the_function_returns_or_raises() -> None:
    thread = CallThread("calls")
    assert await thread.run(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await thread.run(divmod, 7, 0)
    assert await thread.run(abs, -1) == 1, "the thread lives on"
    thread.stop()


async def test_whoever_no_longer_waits_disturbs_nobody(gate: Gate) -> None:
    thread = CallThread("calls")
    call = thread.run(gate.pass_through)
    call.cancel()
    gate.open()
    assert await thread.run(abs, -1) == 1
    thread.stop()


def test_a_call_that_comes_back_after_the_event_loop_is_closed_ends_the_thread(gate: Gate) -> None:
    """As at the end of a process whose disk hangs."""

    async def begin() -> None:
        CallThread("of a closed loop").run(gate.pass_through)
        await asyncio.to_thread(gate.entered.wait, TIMEOUT)

    asyncio.run(begin())
    (thread,) = (thread for thread in threading.enumerate() if thread.name == "of a closed loop")
    gate.open()
    thread.join(TIMEOUT)
    assert not thread.is_alive()

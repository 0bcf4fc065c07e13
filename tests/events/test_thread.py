"""A real thread beside a real event loop."""

import asyncio
import gc
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


def named(name: str) -> threading.Thread:
    (thread,) = (thread for thread in threading.enumerate() if thread.name == name)
    return thread


async def test_a_call_gives_what_the_function_returns_or_raises() -> None:
    thread = CallThread("calls")
    assert await thread.run(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await thread.run(divmod, 7, 0)
    assert await thread.run(abs, -1) == 1, "the thread lives on"
    thread.stop()


async def test_calls_are_made_in_their_order_one_at_a_time_and_elsewhere() -> None:
    thread = CallThread("calls")
    made: list[tuple[int, str]] = []
    calls = [thread.run(lambda n=number: made.append((n, threading.current_thread().name))) for number in range(50)]
    await asyncio.gather(*calls)
    assert made == [(number, "calls") for number in range(50)]
    thread.stop()


async def test_whoever_no_longer_waits_disturbs_nobody(gate: Gate) -> None:
    thread = CallThread("calls")
    call = thread.run(gate.pass_through)
    call.cancel()
    gate.open()
    assert await thread.run(abs, -1) == 1
    thread.stop()


async def test_a_stopped_thread_makes_the_calls_it_was_given_and_ends() -> None:
    thread = CallThread("to be stopped")
    system_thread = named("to be stopped")
    call = thread.run(abs, -1)
    thread.stop()
    assert await call == 1
    system_thread.join(TIMEOUT)
    assert not system_thread.is_alive()


def test_a_call_that_comes_back_after_the_event_loop_is_closed_ends_the_thread(gate: Gate) -> None:
    """As at the end of a process whose disk hangs."""

    async def begin() -> threading.Thread:
        CallThread("of a closed loop").run(gate.pass_through)
        await asyncio.to_thread(gate.entered.wait, TIMEOUT)
        return named("of a closed loop")

    thread = asyncio.run(begin())
    gate.open()
    thread.join(TIMEOUT)
    assert not thread.is_alive()


async def test_asyncio_does_not_complain_of_an_error_that_nobody_asked_for() -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
    thread = CallThread("calls")
    await asyncio.wait({thread.run(divmod, 7, 0)})
    assert await thread.run(abs, -1) == 1
    gc.collect()
    assert complaints == []
    thread.stop()

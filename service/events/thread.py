"""A thread for system calls that may block, beside the event loop that must not."""

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
Then = Callable[[Any, Exception | None], object]
"""Called in the event loop with what a function returned, or with None and what it raised."""


class CallThread:
    """Makes calls one after the other, in the order in which they were asked for.

    A daemon thread: one that hangs in a system call on a sick disk must not keep the process from ending.
    """

    def __init__(self, name: str) -> None:
        """Start the thread. Needs a running event loop."""
        self._loop = asyncio.get_running_loop()
        self._calls: SimpleQueue[tuple[Callable[..., object], object, Then] | None] = SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def submit(self, function: Callable[[Any], object], argument: object, then: Then) -> None:
        """Have a function called with one argument. One hop back to the event loop, where ``run`` needs two."""
        self._calls.put((function, argument, then))

    def run(self, function: Callable[..., T], *arguments: object) -> asyncio.Future[T]:
        """Have a function called; what it returns or raises comes as a future of the event loop."""
        future: asyncio.Future[T] = self._loop.create_future()
        self.submit(lambda _: function(*arguments), None, partial(_settle, future))
        return future

    def stop(self) -> None:
        """Let the thread end after the calls that it was given."""
        self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            function, argument, then = call
            result, problem = None, None
            try:
                result = function(argument)
            except Exception as error:  # noqa: BLE001 - whatever it is belongs to whoever asked
                problem = error
            try:
                self._loop.call_soon_threadsafe(then, result, problem)
            except RuntimeError:
                return  # the event loop is closed, nobody waits any more
            # An exception refers to its traceback, which refers to this frame.
            del call, function, argument, then, result, problem


def _settle(future: asyncio.Future[Any], result: object, problem: Exception | None) -> None:
    if future.done():
        return  # cancelled, together with whoever waited
    if problem is None:
        future.set_result(result)
    else:
        future.set_exception(problem)
        future.exception()  # whoever asked may have gone; that is no reason for asyncio to complain

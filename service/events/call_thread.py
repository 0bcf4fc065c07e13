"""A thread for calls that may block, as those to a sick disk, beside the event loop."""

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
Then = Callable[[Any, Exception | None], object]
Call = tuple[Then, Callable[..., object], tuple[object, ...]]
"""What to call in the event loop with the result or the error; what to call in the thread, and with what."""


class CallThread:
    """Makes calls one after the other, in the order in which they were asked for.

    A daemon thread: one that hangs in a system call on a sick disk must not keep the process from ending.
    """

    def __init__(self, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self.submit: Callable[[Call], None] = self._calls.put
        """Have a call made: one hop, not two, for whoever needs no future."""
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def run(self, function: Callable[..., T], *arguments: object) -> asyncio.Future[T]:
        """Have a function called; what it returns or raises comes as a future."""
        future: asyncio.Future[T] = self._loop.create_future()
        self.submit((partial(_settle, future), function, arguments))
        return future

    def stop(self) -> None:
        """Let the thread end after the calls that it was given."""
        self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            then, function, arguments = call
            result, problem = None, None
            try:
                result = function(*arguments)
            except Exception as error:  # noqa: BLE001 - whatever it is belongs to whoever asked
                problem = error
            try:
                self._loop.call_soon_threadsafe(then, result, problem)
            except RuntimeError:
                return  # the event loop is closed, nobody waits any more


def _settle(future: asyncio.Future[Any], result: object, problem: Exception | None) -> None:
    if future.done():
        return  # cancelled, together with whoever waited
    if problem is None:
        future.set_result(result)
    else:
        future.set_exception(problem)
        future.exception()  # whoever asked may have been cancelled; that is no reason for asyncio to complain

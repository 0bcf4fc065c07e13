"""A limit of time that a busy event loop of our own does not use up."""

import asyncio
from types import TracebackType

TICKS = 10
LEAST = 0.001
"""Seconds between two ticks."""


class Patience:
    """As ``asyncio.timeout``, but counted in ten ticks, of which each counts once, however late it comes.

    A tick comes late while our own event loop is busy, as with the first of 1,000 requests that arrive at once. An
    answer may have come meanwhile, which nobody could look at: it has the ticks that are left to be seen, which catch
    up, but not faster than one in a millisecond.

    Args:
        seconds: after so long ``TimeoutError`` is raised; later only by what the event loop was busy near the end.
    """

    def __init__(self, seconds: float) -> None:
        self._tick = seconds / TICKS
        self._left = TICKS

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None, "a coroutine runs in a task"  # noqa: S101 - for mypy
        self._task = task
        self._cancelled_before = task.cancelling()
        self._loop = asyncio.get_running_loop()
        self._due = self._loop.time() + self._tick
        self._next = self._loop.call_at(self._due, self._pass)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._next.cancel()
        # Where somebody else has cancelled the task too, it stays cancelled.
        if self._left == 0 and self._task.uncancel() <= self._cancelled_before and kind is asyncio.CancelledError:
            raise TimeoutError

    def _pass(self) -> None:
        self._left -= 1
        if self._left > 0:
            self._due += self._tick
            self._next = self._loop.call_at(max(self._due, self._loop.time() + LEAST), self._pass)
        else:
            self._task.cancel()

"""From the spool back to the event log."""

import asyncio
from collections.abc import Callable

from service.events.lines import first_lines
from service.events.outputs import Output
from service.events.thread import CallThread

RETRY_AFTER = 0.5
"""Seconds between two attempts at an event log that fails."""


class Replay:
    """Carries lines to an output as fast as it takes them, without ever waiting for it.

    Args:
        output: takes them.
        thread: in which to call the output; None when it never blocks.
        wake: called when ``go_on`` has something to do again.
    """

    def __init__(self, output: Output, thread: CallThread | None, wake: Callable[[], None]) -> None:
        self._output = output
        self._thread = thread
        self._wake = wake
        self._loop = asyncio.get_running_loop()
        self._call: asyncio.Future[int] | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._is_watching = False
        self.waiting = b""
        """Lines that were read from the spool and are to be carried."""

    def go_on(self) -> bytes:
        """Give the lines that the output took, from the start of ``waiting``; none when it has to be waited for."""
        if not self.waiting or self.is_paused or self._is_watching:
            return b""
        taken = 0
        try:
            if self._thread is None:
                while taken < len(self.waiting):
                    taken += self._output.write(first_lines(self.waiting[taken:], self._output.max_write))
            elif self._call is None:
                self._call = self._thread.call(self._output.write, first_lines(self.waiting, self._output.max_write))
                self._call.add_done_callback(lambda _: self._wake())
            elif self._call.done():
                call, self._call = self._call, None
                taken = call.result()
        except Exception as problem:  # noqa: BLE001 - whatever is wrong with it now, it is tried again
            if isinstance(problem, BlockingIOError) and self._thread is None:
                self._is_watching = True
                self._loop.add_writer(self._output.fileno(), self._writable)
            else:
                self.pause()
        lines, self.waiting = self.waiting[:taken], self.waiting[taken:]
        return lines

    @property
    def is_paused(self) -> bool:
        """Whether something failed a moment ago."""
        return self._retry is not None

    def pause(self) -> None:
        """Do nothing for half a second."""
        self._retry = self._loop.call_later(RETRY_AFTER, self._try_again)

    def stop(self) -> None:
        """Wake nobody any more."""
        if self._is_watching:
            self._loop.remove_writer(self._output.fileno())
        if self._retry is not None:
            self._retry.cancel()

    def _writable(self) -> None:
        self._loop.remove_writer(self._output.fileno())
        self._is_watching = False
        self._wake()

    def _try_again(self) -> None:
        self._retry = None
        self._wake()

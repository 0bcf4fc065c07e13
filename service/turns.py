"""Requests that arrive at the same moment begin some at a time, not all at once."""

import asyncio
from collections import deque
from collections.abc import Callable

AT_ONCE = 128
"""Requests that begin in one turn of the event loop while more wait. One under way holds 20 KB, one that waits 4 KB."""


class Turns:
    """What waits for its turn of the event loop, in the order in which it came.

    A turn begins whether or not what earlier ones began has ended: a request that takes long holds nobody up.
    """

    def __init__(self) -> None:
        self.waiting: deque[Callable[[], None]] = deque()

    def wait(self, loop: asyncio.AbstractEventLoop, begin: Callable[[], None]) -> None:
        """Call a function in a later turn, when all that came before it has been called."""
        if not self.waiting:
            loop.call_soon(self._take, loop)
        self.waiting.append(begin)

    def _take(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            for _ in range(min(AT_ONCE, len(self.waiting))):
                self.waiting.popleft()()
        finally:  # one that fails holds nobody up either
            if self.waiting:
                loop.call_soon(self._take, loop)

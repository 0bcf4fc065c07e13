"""Lines whose fate is not decided yet."""

import asyncio
from collections import deque
from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class PendingLine:
    """A line, and whoever waits to hear whether it is recorded."""

    data: bytes
    recorded: asyncio.Future[bool]
    deadline: float
    """When he has to be told, on the event loop's clock."""
    is_late: bool = False
    """It is part of a write to the event log that has not come back."""
    is_taken: bool = False
    """The event log has taken it, late."""
    is_given_up: bool = False
    """Nobody else took it, so it is lost unless that write took it."""

    def tell(self, *, recorded: bool) -> None:
        """Tell whoever waits, if it is still unknown to him."""
        # A request that was cancelled has cancelled what it waited for; its line is written all the same.
        if not self.recorded.done():
            self.recorded.set_result(recorded)


def fitting(lines: deque[PendingLine], room: int) -> list[PendingLine]:
    """Give the first lines that fit into so many bytes."""
    first: list[PendingLine] = []
    for line in lines:
        room -= len(line.data)
        if room < 0:
            break
        first.append(line)
    return first

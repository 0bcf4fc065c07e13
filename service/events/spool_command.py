"""``clerk-logout spool``: what waits in the directories of processes that have ended, to be read by hand."""

import os
from pathlib import Path
from typing import BinaryIO

from service.events.spool_files import LockedDirectory, directories, event_lines


def print_waiting(spool: Path, out: BinaryIO, *, drain: bool) -> list[str]:
    """Print the lines that wait in a spool, oldest first, but not those of a process that runs.

    Args:
        spool: its directory.
        out: takes the lines.
        drain: remove each file once its lines are written and flushed; otherwise nothing is changed.

    Returns:
        What there is to say about it, a sentence each.

    Raises:
        OSError: a directory cannot be read, or ``out`` takes no more; what was not written stays.
    """
    lines = damaged = held = 0
    for path in directories(spool):
        left = LockedDirectory.lock(path)
        if left is None:
            held += 1
            continue
        try:
            for segment in left.segments():
                found = event_lines(segment)
                out.write(found)
                out.flush()
                lines += found.count(b"\n")
                damaged += segment.stat().st_size - len(found)
                if drain:
                    segment.unlink()
        finally:
            left.close() if drain else os.close(left.descriptor)
    return [
        f"{lines} lines {'written and removed' if drain else 'wait'}",
        *([f"{damaged} bytes are no event lines and were left out"] if damaged else []),
        *([f"left alone, because a process that runs holds them: {held} directories"] if held else []),
    ]

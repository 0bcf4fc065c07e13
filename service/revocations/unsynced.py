"""What one process has signed out by itself, and what of that Redis may not know."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from service.revocations.expiring import Expiring
from service.revocations.memory_store import MemoryStore
from service.revocations.redis_commands import Entry

AT_ONCE = 200
"""Sessions in one command, which then takes Redis less than 1 ms."""


class Owed:
    """The sessions that are to be brought to Redis.

    Args:
        own: every session that this process has signed out, whether Redis knows of it or not.
        most: sessions.
        clock: seconds that never go back.
    """

    def __init__(self, own: MemoryStore, *, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._own = own
        self._clock = clock
        self._owed: Expiring[None] = Expiring(most, clock=clock)

    def __len__(self) -> int:
        return len(self._owed)

    def add(self, session_ids: Sequence[str], *, seconds: float) -> None:
        """Owe these, for so many seconds from now."""
        until = self._clock() + seconds
        for session_id in session_ids:
            self._owed.put(session_id, None, until)

    async def add_all(self) -> None:
        """Owe everything that this process has signed out."""
        for number, session_id in enumerate(self._own.session_ids()):
            if (entry := self._own.entry(session_id)) is not None:
                self.add([session_id], seconds=entry[1])
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)  # for the requests that wait

    async def bring(self, put: Callable[[Sequence[Entry]], Awaitable[None]]) -> None:
        """Bring all of them. Where that fails, raise what ``put`` raised; what is not brought stays owed."""
        while session_ids := self._owed.keys(AT_ONCE):
            entries = []
            for session_id in session_ids:
                # Before the command: what is signed out once more meanwhile is owed once more.
                self._owed.remove(session_id)
                if (entry := self._own.entry(session_id)) is not None:
                    entries.append(Entry(session_id, *entry))
            try:
                await put(entries)
            except BaseException:
                for one in entries:
                    self.add([one.session_id], seconds=one.seconds)
                raise

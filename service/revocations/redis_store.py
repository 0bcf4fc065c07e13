"""The revocation list that several processes share, in Redis.

While Redis is down nobody waits for it: a failed call marks it as down, and from then on calls fail at once. A task in
the background looks for it, and when it answers again brings it what was signed out meanwhile. What this process has
signed out by itself it knows at any time.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NoReturn

from service.revocations.expiring import Expiring
from service.revocations.memory_store import MOST_SESSIONS, MemoryStore
from service.revocations.redis_commands import Entry, RedisCommands
from service.revocations.store import RevocationsUnavailableError

logger = logging.getLogger("service.revocations")

LOOK_EVERY = 0.25
"""Seconds between two looks while Redis is down; the first is at once."""
LOOK_WHILE_UP_EVERY = 5.0
"""Seconds between two looks while all is well, so that an outage is known before the first request fails."""
AT_ONCE = 500
"""Sessions in one command, which then takes Redis about 1 ms."""


class RedisStore:
    """The store. ``start`` it in the event loop that uses it.

    Args:
        redis: the commands.
        most: sessions that this process remembers by itself.
        clock: seconds that never go back.
        on_dropped: called for each session that this process had to forget before its time.
        on_change: told whether the list can be used, whenever that may have changed.
    """

    def __init__(
        self,
        redis: RedisCommands,
        *,
        most: int = MOST_SESSIONS,
        clock: Callable[[], float] = time.monotonic,
        on_dropped: Callable[[], object] = lambda: None,
        on_change: Callable[[bool], object] = lambda _: None,
    ) -> None:
        self.problem: str | None = "Redis: not connected yet"
        self._redis = redis
        self._clock = clock
        self._on_change = on_change
        self._own = MemoryStore(most=most, clock=clock, on_dropped=on_dropped)
        """Every session that this process has signed out, whether Redis knows of it or not."""
        self._owed: Expiring[None] = Expiring(most, clock=clock)
        """Those of them that Redis may not know of."""
        self._down_since: float | None = None
        """Since when there is an outage. One call that fails is none, if the look after it succeeds."""
        self._call_failed = asyncio.Event()
        self._looking: asyncio.Task[NoReturn] | None = None

    async def start(self) -> None:
        """Look for Redis once, for 0.2 s at the most, and from then on in the background."""
        await self._look()
        self._looking = asyncio.create_task(self._keep_looking(), name="revocations")

    async def add(self, session_ids: Sequence[str], *, at: float, seconds: int) -> None:
        """Put sessions on the list; see ``RevocationStore``."""
        await self._own.add(session_ids, at=at, seconds=seconds)
        entries = [Entry(session_id, at, seconds) for session_id in session_ids]
        try:
            with self._noticing():
                for start in range(0, len(entries), AT_ONCE):
                    await self._redis.put(entries[start : start + AT_ONCE])
        except BaseException:  # also where the caller gave up waiting
            until = self._clock() + seconds
            for session_id in session_ids:
                self._owe(session_id, until)
            raise

    async def find(self, session_id: str) -> float | None:
        """Give when the session was signed out; see ``RevocationStore``.

        While Redis is down, this is known of the sessions that this process has signed out, and of no other.
        """
        own = await self._own.find(session_id)
        try:
            with self._noticing():
                found = await self._redis.get(session_id)
        except RevocationsUnavailableError:
            if own is None:
                raise
            return own
        return min((at for at in (own, found) if at is not None), default=None)

    async def claim(self, session_id: str, *, seconds: int) -> bool:
        """Say whether this is the first claim; see ``RevocationStore``."""
        with self._noticing():
            return await self._redis.claim(session_id, seconds=seconds)

    async def close(self) -> None:
        """Stop looking, and close the connections."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})
        await self._redis.close()

    @contextmanager
    def _noticing(self) -> Iterator[None]:
        """Fail at once while Redis is down, and notice that it is."""
        if self.problem is not None:
            raise RevocationsUnavailableError(self.problem)
        try:
            yield
        except RevocationsUnavailableError as error:
            self._set_problem(f"Redis: {error}")
            self._call_failed.set()
            raise RevocationsUnavailableError(self.problem) from None

    async def _keep_looking(self) -> NoReturn:
        while True:
            if self.problem is None:
                await self._wait_while_up()
            else:
                await asyncio.sleep(LOOK_EVERY)
            await self._look()

    async def _wait_while_up(self) -> None:
        self._call_failed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_WHILE_UP_EVERY):
                await self._call_failed.wait()

    async def _look(self) -> None:
        """See whether Redis can be used, and bring it what it may not know, before anybody asks it again."""
        try:
            if self.problem is not None:
                await self._redis.resolve()
            await self._redis.probe()
            await self._bring_what_is_owed()
        except RevocationsUnavailableError as error:
            self._set_problem(f"Redis: {error}")
            if self._down_since is None:
                self._down_since = self._clock()
                logger.error("the revocation list cannot be used. %s", self.problem)  # noqa: TRY400 - one line
                await self._owe_everything()
        else:
            self._set_problem(None)
            if self._down_since is not None:
                seconds, self._down_since = self._clock() - self._down_since, None
                logger.warning("the revocation list can be used again, after %.1f s", seconds)

    async def _bring_what_is_owed(self) -> None:
        while session_ids := self._owed.keys(AT_ONCE):
            entries = []
            for session_id in session_ids:
                # Before the command: what is signed out once more meanwhile is owed once more.
                self._owed.remove(session_id)
                if (entry := self._own.entry(session_id)) is not None:
                    entries.append(Entry(session_id, *entry))
            try:
                await self._redis.put(entries)
            except BaseException:
                for one in entries:
                    self._owe(one.session_id, self._clock() + one.seconds)
                raise

    async def _owe_everything(self) -> None:
        """Redis may come back empty: what it knew before the outage is brought to it again."""
        for number, session_id in enumerate(self._own.session_ids()):
            if (entry := self._own.entry(session_id)) is not None:
                self._owe(session_id, self._clock() + entry[1])
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)  # for the requests that wait

    def _owe(self, session_id: str, until: float) -> None:
        self._owed.put(session_id, None, until)

    def _set_problem(self, problem: str | None) -> None:
        self.problem = problem
        self._on_change(problem is None)

"""The revocation list that several processes share, in Redis.

While Redis is down nobody waits for it: calls fail at once, and a task in the background looks for it. What this
process has signed out by itself it knows at any time, and brings it to a Redis that may not know it, before Redis is
used again: after an outage, after it came back empty, or when another server may answer in its place.
"""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NoReturn

from service.revocations.memory_store import MOST_SESSIONS, MemoryStore
from service.revocations.owed import AT_ONCE, Owed
from service.revocations.patience import Patience
from service.revocations.redis_commands import Entry, RedisCommands
from service.revocations.store import WITHIN, RevocationsUnavailableError
from service.revocations.together import Answer, Together

logger = logging.getLogger("service.revocations")

LOOK_EVERY = 0.25
"""Seconds between two looks while Redis is down; the first is at once."""
LOOK_WHILE_UP_EVERY = 1.0
"""Seconds between two looks while all is well, so that an outage is known before the first request fails."""
REFILL = 2.0
"""Seconds after which every other process has looked too, and brought what it knows to a Redis that had lost it."""
ROUND_TRIPS = 2
"""At the same time, of one kind. Few, so that many questions go together; two, so that one that hangs is not all."""
LAST_ATTEMPT = 0.2
"""Seconds for bringing what is owed, when the process ends."""
LOST = "Redis: it has lost the list; what each process knows of it is being brought back"


class RedisStore:
    """The store. ``start`` it in the event loop that uses it.

    Args:
        redis: the commands.
        most: sessions that this process remembers by itself.
        refill: seconds for which a list that was lost is not believed to be complete.
        clock: seconds that never go back.
        on_dropped: called for each session that this process had to forget before its time.
        on_change: told whether the list can be used, whenever that may have changed.
    """

    def __init__(
        self,
        redis: RedisCommands,
        *,
        most: int = MOST_SESSIONS,
        refill: float = REFILL,
        clock: Callable[[], float] = time.monotonic,
        on_dropped: Callable[[], object] = lambda: None,
        on_change: Callable[[bool], object] = lambda _: None,
    ) -> None:
        self.problem: str | None = "Redis: not connected yet"
        self._redis = redis
        self._refill = refill
        self._clock = clock
        self._on_change = on_change
        self._own = MemoryStore(most=most, clock=clock, on_dropped=on_dropped)
        """Every session that this process has signed out, and every use after logout that it has reported."""
        self._owed = Owed(self._own, most=most, clock=clock)
        self._finds = Together(self._find_together, most=500, at_once=ROUND_TRIPS)
        self._puts = Together(self._put_together, most=AT_ONCE, at_once=ROUND_TRIPS)
        self._marker: str | None = None
        """The list's, as seen last; see ``redis_commands.MARKER``."""
        self._complete_at = -math.inf
        """The clock's time from which the list is believed to be complete."""
        self._down_since: float | None = None
        self._suspected = asyncio.Event()
        """A call or a look has failed, and no look came after it."""
        self._looking: asyncio.Task[NoReturn] | None = None

    async def start(self) -> None:
        """Look for Redis once, for 0.2 s at the most, and from then on in the background."""
        await self._look(was_suspected=True)
        self._looking = asyncio.create_task(self._keep_looking(), name="revocations")

    async def add(self, session_ids: Sequence[str], *, at: float, seconds: int) -> None:
        """Put sessions on the list; see ``RevocationStore``. What fails is owed, and brought later."""
        await self._own.add(session_ids, at=at, seconds=seconds)
        entries = [Entry(session_id, at, seconds) for session_id in session_ids]
        try:
            await self._ask(lambda: self._puts.ask(entries), WITHIN)
        except BaseException:  # also where the caller gave up waiting
            self._owed.add(session_ids, seconds=seconds)
            raise

    async def find(self, session_id: str, *, within: float = WITHIN) -> float | None:
        """Give when the session was signed out; see ``RevocationStore``.

        While Redis is down, this is known of the sessions that this process has signed out, and of no other.
        """
        own = await self._own.find(session_id)
        try:
            (found,) = await self._ask(lambda: self._finds.ask([session_id]), within)
            times = [own, None if found is None else _time_of(found)]
        except RevocationsUnavailableError:
            if own is None:
                raise
            return own
        return min((at for at in times if at is not None), default=None)

    async def claim(self, session_id: str, *, seconds: int, within: float = WITHIN) -> bool:
        """Say whether this is the first claim; see ``RevocationStore``."""
        if not await self._own.claim(session_id, seconds=seconds):
            return False
        try:
            return await self._ask(lambda: self._claim(session_id, seconds), within)
        except RevocationsUnavailableError:
            return True
        except BaseException:  # the caller is gone and reports nothing; the next may
            self._own.unclaim(session_id)
            raise

    async def close(self) -> None:
        """Stop looking, bring what is owed if that is possible at once, and close the connections."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})
        await self._finds.close()
        await self._puts.close()
        with suppress(RevocationsUnavailableError, TimeoutError):
            async with asyncio.timeout(LAST_ATTEMPT):
                await self._owed.bring(self._redis.put)
        if len(self._owed) > 0:
            logger.error("%s signed-out sessions could not be brought to Redis before the end", len(self._owed))
        await self._redis.close()

    # --- What is asked of Redis ---------------------------------------------------------------------------------------

    async def _ask(self, ask: Callable[[], Awaitable[Answer]], within: float) -> Answer:
        """Ask, unless Redis is down. Whoever waits for too long gives up alone: that says nothing about Redis yet."""
        self._fail_while_down()
        try:
            async with Patience(within):
                return await ask()
        except TimeoutError:
            raise RevocationsUnavailableError("Redis: no answer in time") from None

    async def _find_together(self, session_ids: Sequence[str]) -> list[str | None]:
        distinct = list(dict.fromkeys(session_ids))
        with self._noticing():
            found = await self._redis.find(distinct)
        if found.marker != self._marker:
            # Nobody can tell what is missing. The look that follows brings back what this process knows.
            self._set_problem(LOST)
            self._suspected.set()
            raise RevocationsUnavailableError(LOST)
        times = dict(zip(distinct, found.times, strict=True))
        return [times[session_id] for session_id in session_ids]

    async def _put_together(self, entries: Sequence[Entry]) -> list[None]:
        with self._noticing():
            await self._redis.put(entries)
        return [None for _ in entries]

    async def _claim(self, session_id: str, seconds: int) -> bool:
        with self._noticing():
            return await self._redis.claim(session_id, seconds=seconds)

    @contextmanager
    def _noticing(self) -> Iterator[None]:
        """Send nothing while Redis is down, and look at it when a command fails."""
        self._fail_while_down()
        try:
            yield
        except RevocationsUnavailableError as error:
            self._suspected.set()
            raise RevocationsUnavailableError(f"Redis: {error}") from None

    def _fail_while_down(self) -> None:
        if self.problem is not None:
            raise RevocationsUnavailableError(self.problem)

    # --- The look in the background -----------------------------------------------------------------------------------

    async def _keep_looking(self) -> NoReturn:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_WHILE_UP_EVERY if self.problem is None else LOOK_EVERY):
                    await self._suspected.wait()
            was_suspected = self._suspected.is_set()
            self._suspected.clear()
            await self._look(was_suspected=was_suspected)

    async def _look(self, *, was_suspected: bool) -> None:
        """See whether Redis can be used, and bring it what it may not know, before anybody asks it again.

        Args:
            was_suspected: something failed already, so that a failure now is an outage; else one is no outage yet.
        """
        try:
            if self.problem is not None:
                await self._redis.look_up()
            probed = await self._redis.probe()
            if self._marker not in {None, probed.marker}:
                self._complete_at = self._clock() + self._refill
                self._is_down(LOST)
            if probed.is_new_connection or self._marker != probed.marker:
                await self._owed.add_all()
            self._marker = probed.marker
            await self._owed.bring(self._redis.put)
        except RevocationsUnavailableError as error:
            if was_suspected or self.problem is not None:
                self._is_down(f"Redis: {error}")
                # The next look is to find what a new connection finds, where the host's name leads then.
                await self._redis.close_connections()
            else:
                self._suspected.set()
        else:
            if self._clock() < self._complete_at:
                self._is_down(LOST)
            else:
                self._is_up()

    def _is_down(self, problem: str) -> None:
        self._set_problem(problem)
        if self._down_since is None:
            self._down_since = self._clock()
            logger.error("the revocation list cannot be used. %s", problem)

    def _is_up(self) -> None:
        self._set_problem(None)
        if self._down_since is not None:
            seconds, self._down_since = self._clock() - self._down_since, None
            logger.warning("the revocation list can be used again, after %.1f s", seconds)

    def _set_problem(self, problem: str | None) -> None:
        self.problem = problem
        self._on_change(problem is None)


def _time_of(text: str) -> float:
    """Read a time that Redis holds."""
    try:
        at = float(text)
    except ValueError:
        at = math.nan
    if not math.isfinite(at):
        raise RevocationsUnavailableError("Redis: it holds a value that this service did not write")
    return at

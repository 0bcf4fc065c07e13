"""The revocation list that several processes share, in Redis.

What this process has signed out by itself it knows at any time, and brings it to a Redis that may not know it: after an
outage, after it came back empty, or when another server may answer in its place; see ``redis_watch``.
"""

import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from service.revocations.batcher import Together
from service.revocations.memory_store import MOST_SESSIONS, MemoryStore
from service.revocations.patience import Patience
from service.revocations.redis_commands import Entry, RedisCommands
from service.revocations.redis_health import REFILL, RedisWatch
from service.revocations.store import RevocationsUnavailableError
from service.revocations.unsynced import AT_ONCE, Owed

ROUND_TRIPS = 2
"""At the same time, of one kind. Few, so that many questions go together; two, so that one that hangs is not all."""

Answer = TypeVar("Answer")


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
        self._redis = redis
        self._own = MemoryStore(most=most, clock=clock, on_dropped=on_dropped)
        """Every session that this process has signed out, and every use after logout that it has reported."""
        self._owed = Owed(self._own, most=most, clock=clock)
        self._watch = RedisWatch(redis, self._owed, refill=refill, clock=clock, on_change=on_change)
        self._finds = Together(self._find_together, most=500, at_once=ROUND_TRIPS)
        self._puts = Together(self._put_together, most=AT_ONCE, at_once=ROUND_TRIPS)

    @property
    def problem(self) -> str | None:
        """Why Redis cannot be used at the moment; see ``RevocationStore``."""
        return self._watch.problem

    async def start(self) -> None:
        """Look for Redis once, for 0.1 s at the most, and from then on in the background."""
        await self._watch.start()

    async def add(self, session_ids: Sequence[str], *, at: float, seconds: int) -> None:
        """Put sessions on the list; see ``RevocationStore``. What fails is owed, and brought later."""
        await self._own.add(session_ids, at=at, seconds=seconds)
        entries = [Entry(session_id, at, seconds) for session_id in session_ids]
        try:
            await self._ask(lambda: self._puts.ask(entries))
        except BaseException:  # also where the caller gave up waiting
            self._owed.add(session_ids, seconds=seconds)
            raise

    async def find(self, session_id: str, *, within: float | None = None) -> float | None:
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

    async def claim(self, session_id: str, *, seconds: int, within: float | None = None) -> bool:
        """Say whether this is the first claim; see ``RevocationStore``. Redis is asked once in the time of a claim."""
        if not await self._own.claim(session_id, seconds=seconds):
            return False
        try:
            left = await self._ask(lambda: self._claim(session_id, seconds), within)
        except RevocationsUnavailableError:
            return True
        except BaseException:  # the caller is gone and reports nothing; the next may
            self._own.unclaim(session_id)
            raise
        if left > 0:
            self._own.unclaim(session_id)
            await self._own.claim(session_id, seconds=left)
        return left == 0

    async def close(self) -> None:
        """Stop looking, bring what is owed if that is possible at once, and close the connections."""
        await self._finds.close()
        await self._puts.close()
        await self._watch.stop()
        await self._redis.close()

    async def _ask(self, ask: Callable[[], Awaitable[Answer]], within: float | None = None) -> Answer:
        """Ask, unless Redis is down. Whoever waits for too long gives up alone: that is no outage yet."""
        self._watch.fail_while_down()
        try:
            async with Patience(self._redis.within if within is None else within):
                return await ask()
        except TimeoutError:
            raise RevocationsUnavailableError("Redis: no answer in time") from None

    async def _find_together(self, session_ids: Sequence[str]) -> list[str | None]:
        distinct = list(dict.fromkeys(session_ids))
        with self._watch.noticing():
            found = await self._redis.find(distinct)
        self._watch.expect(found.marker)
        times = dict(zip(distinct, found.times, strict=True))
        return [times[session_id] for session_id in session_ids]

    async def _put_together(self, entries: Sequence[Entry]) -> list[None]:
        with self._watch.noticing():
            await self._redis.put(entries)
        return [None for _ in entries]

    async def _claim(self, session_id: str, seconds: int) -> float:
        with self._watch.noticing():
            return await self._redis.claim(session_id, seconds=seconds)


def _time_of(text: str) -> float:
    """Read a time that Redis holds."""
    try:
        at = float(text)
    except ValueError:
        at = math.nan
    if not math.isfinite(at):
        raise RevocationsUnavailableError("Redis: it holds a value that this service did not write")
    return at

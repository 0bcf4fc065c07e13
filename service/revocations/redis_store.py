"""The revocation list that several processes share, in Redis.

What this process has signed out itself it knows at any time, whether Redis can be asked or not.
"""

import math
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from service.revocations.batcher import Batcher
from service.revocations.redis_commands import MAX_ENTRIES, Entry, RedisCommands
from service.revocations.redis_health import REFILL, RedisHealth
from service.revocations.revocation_list import REVOCATIONS_TIMEOUT, MemoryStore, RevocationsUnavailableError

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class RedisStore:
    """The store. ``start`` it in the event loop that uses it.

    Args:
        redis: the commands.
        refill: seconds for which a list that was lost is not believed to be complete.
        timeout: seconds in which it answers.
        clock: seconds that never go back.
        on_dropped: called for each session that this process had to forget before its time.
        on_change: told whether the list can be used, whenever that may have changed.
    """

    def __init__(
        self,
        redis: RedisCommands,
        *,
        refill: float = REFILL,
        timeout: float = REVOCATIONS_TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
        on_dropped: Callable[[], object] = lambda: None,
        on_change: Callable[[bool], object] = lambda _: None,
    ) -> None:
        self._redis = redis
        self._timeout = timeout
        self._own = MemoryStore(clock=clock, on_dropped=on_dropped)
        """Every session that this process has signed out, and every use after logout that it has reported."""
        self._health = RedisHealth(redis, self._own, refill=refill, clock=clock, on_change=on_change)
        # Few round trips at the same time, so that many questions go together; more than one, in case that one hangs.
        self._finds = Batcher(self._find_batch, max_size=500, max_concurrency=4)
        self._puts = Batcher(self._put_batch, max_size=MAX_ENTRIES, max_concurrency=2)
        self._claims = Batcher(self._claim_batch, max_size=MAX_ENTRIES, max_concurrency=2)

    @property
    def problem(self) -> str | None:
        """Why Redis cannot be used at the moment; see ``RevocationStore``."""
        return self._health.problem

    async def start(self) -> None:
        """Look for Redis once, and from then on in the background."""
        await self._health.start()

    async def add(self, session_ids: Sequence[str], *, at: float, seconds: int) -> None:
        """Put sessions on the list; see ``RevocationStore``. What fails is brought to Redis later."""
        await self._own.add(session_ids, at=at, seconds=seconds)
        try:
            await self._ask(self._puts, [Entry(session_id, at, seconds) for session_id in session_ids])
        except BaseException:  # also where the caller gave up waiting
            self._health.add_unsynced(session_ids)
            raise

    async def find(self, session_id: str, *, within: float | None = None) -> float | None:
        """Give when the session was signed out; see ``RevocationStore``.

        While Redis is down, this is known of the sessions that this process has signed out, and of no other.
        """
        own = await self._own.find(session_id)
        try:
            value = await self._ask(self._finds, session_id, within)
            if value is None:
                return own
            found = _time_of(value)
        except RevocationsUnavailableError:
            if own is None:
                raise
            return own
        return found if own is None else min(own, found)

    async def claim(self, session_id: str, *, seconds: int, within: float | None = None) -> bool:
        """Say whether this is the first claim; see ``RevocationStore``."""
        if self._own.is_claimed(session_id):
            return False
        try:
            if not await self._ask(self._claims, (session_id, seconds), within):
                return False
        except RevocationsUnavailableError:
            pass
        # Not before, so that the claim of a caller who is gone meanwhile is left to the next.
        return await self._own.claim(session_id, seconds=seconds)

    async def close(self) -> None:
        """Stop looking, bring Redis what it may not know if that is possible at once, and close the connections."""
        for batcher in (self._finds, self._puts, self._claims):
            await batcher.close()
        await self._health.stop()
        await self._redis.disconnect()

    async def _ask(self, batcher: Batcher[Question, Answer], question: Question, within: float | None = None) -> Answer:
        """Ask, unless Redis is down."""
        if self._health.problem is not None:
            raise RevocationsUnavailableError(self._health.problem)
        try:
            return await batcher.submit(question, self._timeout if within is None else within)
        except TimeoutError:
            self._health.suspect()
            raise RevocationsUnavailableError("Redis: no answer in time") from None

    async def _find_batch(self, session_ids: Sequence[str]) -> Sequence[str | None]:
        marker, times = await self._health.watch(self._redis.find(session_ids))
        self._health.expect(marker)
        return times

    async def _put_batch(self, batch: Sequence[Sequence[Entry]]) -> Sequence[None]:
        await self._health.watch(self._redis.put([entry for entries in batch for entry in entries]))
        return [None] * len(batch)

    async def _claim_batch(self, claims: Sequence[tuple[str, int]]) -> Sequence[bool]:
        return await self._health.watch(self._redis.claim(claims))


def _time_of(value: str) -> float:
    """Read a time that Redis holds."""
    try:
        at = float(value)
    except (TypeError, ValueError):
        at = math.nan
    if not math.isfinite(at):
        raise RevocationsUnavailableError("Redis: it holds a value that this service did not write")
    return at

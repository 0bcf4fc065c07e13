"""The revocation list that several processes share, in Redis.

What this process has signed out itself it knows at any time. One task looks at Redis, and brings it what it may not
know before anybody asks it again.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from service.revocations.batcher import Answer, Batcher, Question, cancel
from service.revocations.redis_commands import LOST, MAX_CONNECTIONS, MAX_ENTRIES, Entry, RedisCommands
from service.revocations.revocation_list import (
    MAX_SESSIONS,
    REVOCATIONS_TIMEOUT,
    MemoryStore,
    RevocationsUnavailableError,
)
from service.telemetry.metrics import Metrics

logger = logging.getLogger("service.revocations")

LOOK_EVERY = 1.0
"""Seconds between two looks while Redis is up, so that an outage is known before the first request fails."""
LOOK_EVERY_WHILE_DOWN = 0.25
REFILL = 2.0
"""Seconds after which every other process has looked too, and brought what it knows to a Redis that had lost it."""


class RedisStore(MemoryStore):
    """The store. Make it, and ``start`` it, in the event loop that uses it. While it is not up, nobody waits for Redis.

    ========== ======================== ================================================
    state      a look that fails        a look that succeeds
    ========== ======================== ================================================
    connecting down                     up
    up         down                     up; where the marker is another, the list was
                                        lost: refilling, for ``refill`` seconds
    down       down                     up, or refilling
    refilling  down                     refilling until its time is over, then up
    ========== ======================== ================================================

    A look is due every second, four times a second while Redis is not up, and at once when a command fails or is late.
    It also brings Redis the unsynced sessions, those signed out here that it may not know: where a command failed, or
    all of them over a new connection (a server that was behind may have taken over) and after the list was lost.

    Args:
        redis: the commands.
        metrics: show whether the list can be used, too.
        refill: seconds for which a list that was lost is not believed to be complete.
        timeout: seconds in which it answers. The rest is as ``MemoryStore`` has it, for what this process signs out.
    """

    def __init__(
        self,
        redis: RedisCommands,
        metrics: Metrics | None = None,
        *,
        refill: float = REFILL,
        timeout: float = REVOCATIONS_TIMEOUT,
        max_sessions: int = MAX_SESSIONS,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(metrics, max_sessions=max_sessions, clock=clock)
        self.problem = "Redis: not connected yet"
        self._redis = redis
        self._refill = refill
        self._timeout = timeout
        self._monotonic = monotonic
        self._unsynced: set[str] = set()
        self._complete_at = -math.inf
        """The monotonic time from which the list is believed to be complete."""
        self._down_since: float | None = None
        self._look_now = asyncio.Event()
        self._looking: list[asyncio.Task[None]] = []
        # Few round trips at the same time, so that many questions go together; more than one, in case that one hangs.
        self._finds = Batcher(redis.find, max_size=500, max_concurrency=4)
        self._puts = Batcher(redis.put, max_size=MAX_ENTRIES, max_concurrency=2)
        self._claims = Batcher(redis.claim, max_size=MAX_ENTRIES, max_concurrency=2)

    async def start(self) -> None:
        """Look for Redis once, and from then on in the background."""
        await self._look()
        self._looking.append(asyncio.create_task(self._keep_looking(), name="redis-health"))

    async def add(self, session_ids: Sequence[str], *, at: float, seconds: float) -> None:
        """Put sessions on the list. What fails is brought to Redis later."""
        await super().add(session_ids, at=at, seconds=seconds)
        try:
            await self._ask(self._puts, [Entry(session_id, at, seconds) for session_id in session_ids])
        except BaseException:  # also where the caller gave up waiting
            self._unsynced.update(session_ids)
            if len(self._unsynced) > 2 * self._max_sessions:  # in a long outage most of them have ended
                self._unsynced.intersection_update(self._signed_out.keys())
            raise

    async def find(self, session_id: str, *, within: float | None = None) -> float | None:
        """Give when the session was signed out; where this process did that, it knows by itself."""
        if (own := await super().find(session_id)) is not None:
            return own
        value = await self._ask(self._finds, session_id, within)
        return None if value is None else _time_of(value)

    async def claim(self, session_id: str, *, seconds: int, within: float | None = None) -> bool:
        """Say whether this is the first claim."""
        if self._claimed.get(session_id) is not None:
            return False
        with suppress(RevocationsUnavailableError):
            if not await self._ask(self._claims, (session_id, seconds), within):
                return False
        return await super().claim(session_id, seconds=seconds)

    async def close(self) -> None:
        """Stop looking, and close the connections."""
        for batcher in (self._finds, self._puts, self._claims):
            await batcher.close()
        await cancel(self._looking)
        if self._unsynced:
            logger.error("%s signed-out sessions could not be brought to Redis before the end", len(self._unsynced))
        await self._redis.disconnect()

    async def _ask(self, batcher: Batcher[Question, Answer], question: Question, within: float | None = None) -> Answer:
        if self.problem is not None:
            raise RevocationsUnavailableError(self.problem)
        try:
            return await batcher.submit(question, self._timeout if within is None else within)
        except (TimeoutError, RevocationsUnavailableError) as error:
            self._look_now.set()
            raise RevocationsUnavailableError(str(error) or "Redis: no answer in time") from None

    async def _keep_looking(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY if self.problem is None else LOOK_EVERY_WHILE_DOWN):
                    await self._look_now.wait()
            self._look_now.clear()
            await self._look()

    async def _look(self) -> None:
        try:
            if self.problem is not None:
                await self._redis.resolve()
            if is_lost := await self._redis.probe():
                self._set_problem(LOST)
                self._complete_at = self._monotonic() + self._refill
            if self.problem is not None:
                # Connections for the first requests, which could not wait for TLS and AUTH over a long way.
                await asyncio.gather(*(self._redis.find([]) for _ in range(MAX_CONNECTIONS)), return_exceptions=True)
            if self._redis.has_new_connection or is_lost:
                self._redis.has_new_connection = False
                self._unsynced.update(self._signed_out.keys())
                self._set_warning(await self._redis.eviction_problem())
            while self._unsynced:
                await self._sync()
            self._set_problem(LOST if self._monotonic() < self._complete_at else None)
        except RevocationsUnavailableError as error:
            self._set_problem(str(error))
            await self._redis.disconnect()

    async def _sync(self) -> None:
        # Taken out before, so that one of them that is signed out again meanwhile is brought again.
        session_ids, self._unsynced = self._unsynced, set()
        try:
            entries = ((session_id, self._signed_out.get(session_id)) for session_id in session_ids)
            await self._redis.put([[Entry(session_id, *entry) for session_id, entry in entries if entry is not None]])
        except BaseException:
            self._unsynced |= session_ids
            raise

    def _set_problem(self, problem: str | None) -> None:
        self.problem = problem
        self._metrics.revocations_up.set(problem is None)
        if problem is not None and self._down_since is None:
            self._down_since = self._monotonic()
            logger.error("the revocation list cannot be used. %s", problem)
        elif problem is None and self._down_since is not None:
            logger.warning("the revocation list can be used again, after %.1f s", self._monotonic() - self._down_since)
            self._down_since = None

    def _set_warning(self, warning: str | None) -> None:
        if warning is not None and warning != self.warning:
            logger.warning("the revocation list may lose sessions. %s", warning)
        self.warning = warning


def _time_of(value: str) -> float:
    try:
        at = float(value)
    except (TypeError, ValueError):
        at = math.nan
    if not math.isfinite(at):
        raise RevocationsUnavailableError("Redis: it holds a value that this service did not write")
    return at

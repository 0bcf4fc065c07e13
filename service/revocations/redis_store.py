"""The revocation list that several processes share, in Redis.

What this process has signed out itself it knows at any time. One task looks at Redis, and brings it what it may not
know before anybody asks it again.
"""

import asyncio
import logging
import math
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from threading import Thread
from typing import TypeVar

from service.revocations.batcher import Batcher
from service.revocations.redis_commands import CONNECT_TIMEOUT, MAX_CONNECTIONS, MAX_ENTRIES, Entry, RedisCommands
from service.revocations.revocation_list import (
    MAX_SESSIONS,
    REVOCATIONS_TIMEOUT,
    MemoryStore,
    RevocationsUnavailableError,
)

logger = logging.getLogger("service.revocations")

LOOK_EVERY = 1.0
"""Seconds between two looks while Redis is up, so that an outage is known before the first request fails."""
LOOK_EVERY_WHILE_DOWN = 0.25
REFILL = 2.0
"""Seconds after which every other process has looked too, and brought what it knows to a Redis that had lost it."""
LAST_LOOK_TIMEOUT = 0.2
LOST = "Redis: it has lost the list; each process is bringing back what it knows"

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class RedisStore:
    """The store. ``start`` it in the event loop that uses it. While it is not up, nobody waits for Redis.

    ========== ====================================== ================================================
    state      a look that fails                      a look that succeeds
    ========== ====================================== ================================================
    connecting down                                   up
    up         is repeated over a new connection      up; where the marker is another, the list was
               (one failure is no outage), then down  lost: refilling, for ``refill`` seconds
    down       down                                   up, or refilling
    refilling  down                                   refilling until its time is over, then up
    ========== ====================================== ================================================

    A look is due every second, four times a second while Redis is not up, and at once when a command fails or is late.
    It also brings Redis the unsynced sessions, those signed out here that it may not know: where a command failed, or
    all of them over a new connection (a server that was behind may have taken over) and after the list was lost.

    Args:
        redis: the commands.
        refill: seconds for which a list that was lost is not believed to be complete.
        timeout: seconds in which it answers.
        clock: seconds that never go back.
        wall_clock: seconds that may.
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
        wall_clock: Callable[[], float] = time.time,
        on_dropped: Callable[[], object] = lambda: None,
        on_change: Callable[[bool], object] = lambda _: None,
    ) -> None:
        self.problem: str | None = "Redis: not connected yet"
        self.warning: str | None = None
        self._redis = redis
        self._refill = refill
        self._timeout = timeout
        self._clock = clock
        self._on_change = on_change
        self._own = MemoryStore(clock=clock, wall_clock=wall_clock, on_dropped=on_dropped)
        """Every session that this process has signed out, and every use after logout that it has reported."""
        self._unsynced: set[str] = set()
        """Sessions of ``_own`` that Redis may not know."""
        self._marker: str | None = None
        """The list's, as seen by the last look."""
        self._complete_at = -math.inf
        """The clock's time from which the list is believed to be complete."""
        self._down_since: float | None = None
        self._look_now = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._is_closing = False
        self._resolving = Thread()
        # Few round trips at the same time, so that many questions go together; more than one, in case that one hangs.
        self._finds = Batcher(self._find_batch, max_size=500, max_concurrency=4)
        self._puts = Batcher(self._put_batch, max_size=MAX_ENTRIES, max_concurrency=2)
        self._claims = Batcher(redis.claim, max_size=MAX_ENTRIES, max_concurrency=2)

    async def start(self) -> None:
        """Look for Redis once, and from then on in the background."""
        await self._look()
        self._looking = asyncio.create_task(self._keep_looking(), name="redis-health")

    async def add(self, session_ids: Sequence[str], *, at: float, seconds: int) -> None:
        """Put sessions on the list. What fails is brought to Redis later."""
        await self._own.add(session_ids, at=at, seconds=seconds)
        try:
            await self._ask(self._puts, [Entry(session_id, at, seconds) for session_id in session_ids])
        except BaseException:  # also where the caller gave up waiting
            self._add_unsynced(session_ids)
            raise

    async def find(self, session_id: str, *, within: float | None = None) -> float | None:
        """Give when the session was signed out.

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
        """Say whether this is the first claim."""
        if self._own.is_claimed(session_id):
            return False
        with suppress(RevocationsUnavailableError):
            if not await self._ask(self._claims, (session_id, seconds), within):
                return False
        # Not before, so that the claim of a caller who is gone meanwhile is left to the next.
        return await self._own.claim(session_id, seconds=seconds)

    async def close(self) -> None:
        """Stop looking, bring Redis what it may not know if that is possible at once, and close the connections."""
        for batcher in (self._finds, self._puts, self._claims):
            await batcher.close()
        self._is_closing = True  # because asyncio.wait_for of Python 3.11, in redis-py, may swallow what cancels it
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})
        if self._unsynced:
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_LOOK_TIMEOUT):
                    await self._look()
        if self._unsynced:
            logger.error("%s signed-out sessions could not be brought to Redis before the end", len(self._unsynced))
        await self._redis.disconnect()

    async def _ask(self, batcher: Batcher[Question, Answer], question: Question, within: float | None = None) -> Answer:
        if self.problem is not None:
            raise RevocationsUnavailableError(self.problem)
        try:
            return await batcher.submit(question, self._timeout if within is None else within)
        except TimeoutError:
            self._look_now.set()
            raise RevocationsUnavailableError("Redis: no answer in time") from None
        except RevocationsUnavailableError:
            self._look_now.set()
            raise

    async def _find_batch(self, session_ids: Sequence[str]) -> Sequence[str | None]:
        marker, times = await self._redis.find(session_ids)
        if marker != self._marker:  # the answer is worth nothing: the list was lost meanwhile
            self._set_problem(LOST)
            raise RevocationsUnavailableError(LOST)
        return times

    async def _put_batch(self, batch: Sequence[Sequence[Entry]]) -> Sequence[None]:
        await self._redis.put([entry for entries in batch for entry in entries])
        return [None] * len(batch)

    async def _keep_looking(self) -> None:
        while not self._is_closing:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY if self.problem is None else LOOK_EVERY_WHILE_DOWN):
                    await self._look_now.wait()
            self._look_now.clear()
            await self._look()

    async def _look(self) -> None:
        try:
            marker, is_new_connection = await self._probe()
            is_lost = self._marker not in (None, marker)
            self._marker = marker
            if is_lost:
                self._set_problem(LOST)
                self._complete_at = self._clock() + self._refill
            if is_new_connection:
                self._set_warning(await self._redis.eviction_problem())
            if is_lost or is_new_connection:
                self._add_unsynced(self._own.session_ids())
            if self.problem is not None:
                # Connections for the first requests, which could not wait for TLS and AUTH over a long way.
                await asyncio.gather(*(self._redis.find([]) for _ in range(MAX_CONNECTIONS)), return_exceptions=True)
            while self._unsynced:
                await self._sync()
            self._set_problem(LOST if self._clock() < self._complete_at else None)
        except RevocationsUnavailableError as error:
            self._set_problem(str(error))
            await self._redis.disconnect()

    async def _probe(self) -> tuple[str, bool]:
        if self.problem is None:
            with suppress(RevocationsUnavailableError):
                return await self._redis.probe()
        await self._resolve()
        return await self._redis.probe()

    async def _resolve(self) -> None:
        """See that the resolver answers, whatever it says, in one daemon thread.

        redis-py waits for it in threads that hold up the end of the process, for half a minute where nobody answers.
        """
        if not self._resolving.is_alive():
            self._resolving = Thread(target=_look_up, args=[self._redis.host], name="redis-resolver", daemon=True)
            self._resolving.start()
        deadline = time.monotonic() + CONNECT_TIMEOUT
        while self._resolving.is_alive():
            if time.monotonic() > deadline:
                raise RevocationsUnavailableError("Redis: its host name could not be resolved in time")
            await asyncio.sleep(0.001)

    async def _sync(self) -> None:
        session_ids, self._unsynced = self._unsynced, set()
        try:
            entries = ((session_id, self._own.entry(session_id)) for session_id in session_ids)
            await self._redis.put([Entry(session_id, *entry) for session_id, entry in entries if entry is not None])
        except BaseException:
            self._add_unsynced(session_ids)
            raise

    def _add_unsynced(self, session_ids: Iterable[str]) -> None:
        self._unsynced.update(session_ids)
        if len(self._unsynced) > 2 * MAX_SESSIONS:  # in a long outage most of them have ended
            self._unsynced = set(self._own.session_ids())

    def _set_problem(self, problem: str | None) -> None:
        self.problem = problem
        self._on_change(problem is None)
        if problem is not None and self._down_since is None:
            self._down_since = self._clock()
            logger.error("the revocation list cannot be used. %s", problem)
        elif problem is None and self._down_since is not None:
            logger.warning("the revocation list can be used again, after %.1f s", self._clock() - self._down_since)
            self._down_since = None

    def _set_warning(self, warning: str | None) -> None:
        if warning is not None and warning != self.warning:
            logger.warning("the revocation list may lose sessions. %s", warning)
        self.warning = warning


def _look_up(host: str) -> None:
    with suppress(OSError, UnicodeError):
        socket.getaddrinfo(host, None)


def _time_of(value: str) -> float:
    try:
        at = float(value)
    except (TypeError, ValueError):
        at = math.nan
    if not math.isfinite(at):
        raise RevocationsUnavailableError("Redis: it holds a value that this service did not write")
    return at

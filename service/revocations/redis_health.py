"""Whether Redis can be used: one task looks at it, and brings it what it may not know before anybody asks it again."""

import asyncio
import logging
import math
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from threading import Thread
from typing import TypeVar

from service.revocations.redis_commands import CONNECT_TIMEOUT, MAX_CONNECTIONS, Entry, RedisCommands
from service.revocations.revocation_list import MAX_SESSIONS, MemoryStore, RevocationsUnavailableError

logger = logging.getLogger("service.revocations")

LOOK_EVERY = 1.0
"""Seconds between two looks while Redis is up, so that an outage is known before the first request fails."""
LOOK_EVERY_WHILE_DOWN = 0.25
REFILL = 2.0
"""Seconds after which every other process has looked too, and brought what it knows to a Redis that had lost it."""
LAST_LOOK_TIMEOUT = 0.2
"""Seconds for the look when the process ends."""
LOST = "Redis: it has lost the list; each process is bringing back what it knows"

Answer = TypeVar("Answer")


class RedisHealth:
    """What is known of Redis: ``problem`` is None while it is up, and in the other states nobody waits for it.

    ========== ====================================== ================================================
    state      a look that fails                      a look that succeeds
    ========== ====================================== ================================================
    connecting down                                   up
    up         is repeated over a new connection      up; where the marker is another, the list was
               (one failure is no outage), then down  lost: refilling, for ``REFILL`` seconds
    down       down                                   up, or refilling
    refilling  down                                   refilling until its time is over, then up
    ========== ====================================== ================================================

    A look is due every second, four times a second while Redis is not up, and at once when a command fails or is late.

    A look also brings Redis the unsynced sessions, those signed out here that it may not know: where a command failed,
    or all of them over a new connection (a server that was behind may have taken over) and after the list was lost.

    Args:
        redis: the commands.
        own: what this process has signed out.
        refill: seconds for which a list that was lost is not believed to be complete.
        clock: seconds that never go back.
        on_change: told whether the list can be used, whenever that may have changed.
    """

    def __init__(
        self,
        redis: RedisCommands,
        own: MemoryStore,
        *,
        refill: float = REFILL,
        clock: Callable[[], float] = time.monotonic,
        on_change: Callable[[bool], object] = lambda _: None,
    ) -> None:
        self.problem: str | None = "Redis: not connected yet"
        self._redis = redis
        self._resolving = Thread()
        self._own = own
        self._refill = refill
        self._clock = clock
        self._on_change = on_change
        self._unsynced: set[str] = set()
        """Sessions of ``own`` that Redis may not know."""
        self._marker: str | None = None
        """The list's, as seen by the last look."""
        self._complete_at = -math.inf
        """The clock's time from which the list is believed to be complete."""
        self._down_since: float | None = None
        self._look_now = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_stopping = False

    async def start(self) -> None:
        """Look once, and from then on in the background."""
        await self._look()
        self._task = asyncio.create_task(self._keep_looking(), name="redis-health")

    async def stop(self) -> None:
        """Look no more, but for one last time where there are unsynced sessions."""
        self._is_stopping = True  # because asyncio.wait_for of Python 3.11, in redis-py, may swallow what cancels it
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        if self._unsynced:
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_LOOK_TIMEOUT):
                    await self._look()
        if self._unsynced:
            logger.error("%s signed-out sessions could not be brought to Redis before the end", len(self._unsynced))

    def add_unsynced(self, session_ids: Iterable[str]) -> None:
        """Have sessions that Redis may not know brought to it by a look."""
        self._unsynced.update(session_ids)
        if len(self._unsynced) > 2 * MAX_SESSIONS:  # in a long outage most of them have ended
            self._unsynced = set(self._own.session_ids())

    def suspect(self) -> None:
        """Have Redis looked at, because something failed or is late."""
        self._look_now.set()

    async def watch(self, command: Awaitable[Answer]) -> Answer:
        """Await a command, and have Redis looked at where it fails."""
        try:
            return await command
        except RevocationsUnavailableError:
            self.suspect()
            raise

    def expect(self, marker: str | None) -> None:
        """Compare the marker that came with an answer, which is worth nothing if the list was lost meanwhile.

        Raises:
            RevocationsUnavailableError: it was. What each process knows is brought back by its next look.
        """
        if marker != self._marker:
            self._set_problem(LOST)
            self.suspect()
            raise RevocationsUnavailableError(LOST)

    async def _keep_looking(self) -> None:
        while not self._is_stopping:
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
            if is_lost or is_new_connection:
                self.add_unsynced(self._own.session_ids())
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
            self.add_unsynced(session_ids)
            raise

    def _set_problem(self, problem: str | None) -> None:
        self.problem = problem
        self._on_change(problem is None)
        if problem is not None and self._down_since is None:
            self._down_since = self._clock()
            logger.error("the revocation list cannot be used. %s", problem)
        elif problem is None and self._down_since is not None:
            logger.warning("the revocation list can be used again, after %.1f s", self._clock() - self._down_since)
            self._down_since = None


def _look_up(host: str) -> None:
    with suppress(OSError, UnicodeError):
        socket.getaddrinfo(host, None)

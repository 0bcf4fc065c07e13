"""Whether Redis can be used: a task looks for it, and brings it what it may not know before anybody asks it again.

One failure is no outage. What fails or is late has Redis looked at, over a connection of its own; when that fails too,
Redis is down, and nobody waits for it until a look finds it again.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from service.revocations.redis_commands import RedisCommands
from service.revocations.store import RevocationsUnavailableError
from service.revocations.unsynced import Owed

logger = logging.getLogger("service.revocations")

LOOK_EVERY = 0.25
"""Seconds between two looks while Redis is down; the first is at once."""
LOOK_WHILE_UP_EVERY = 1.0
"""Seconds between two looks while all is well, so that an outage is known before the first request fails."""
REFILL = 2.0
"""Seconds after which every other process has looked too, and brought what it knows to a Redis that had lost it."""
LAST_LOOK = 0.2
"""Seconds for the look when the process ends."""
LOST = "Redis: it has lost the list; each process is bringing back what it knows"


class RedisWatch:
    """The watch. ``start`` it in the event loop that uses it.

    Args:
        redis: the commands.
        owed: what is to be brought to Redis.
        refill: seconds for which a list that was lost is not believed to be complete.
        clock: seconds that never go back.
        on_change: told whether the list can be used, whenever that may have changed.
    """

    def __init__(
        self,
        redis: RedisCommands,
        owed: Owed,
        *,
        refill: float = REFILL,
        clock: Callable[[], float] = time.monotonic,
        on_change: Callable[[bool], object] = lambda _: None,
    ) -> None:
        self.problem: str | None = "Redis: not connected yet"
        self._redis = redis
        self._owed = owed
        self._refill = refill
        self._clock = clock
        self._on_change = on_change
        self._marker: str | None = None
        """The list's, as seen by the last look; see ``redis_commands.MARKER``."""
        self._complete_at = -math.inf
        """The clock's time from which the list is believed to be complete."""
        self._down_since: float | None = None
        self._suspected = asyncio.Event()
        """Something failed, and no look has come after it."""
        self._looking: asyncio.Task[NoReturn] | None = None

    async def start(self) -> None:
        """Look once, for 0.1 s at the most, and from then on in the background."""
        await self._look(was_suspected=True)
        self._looking = asyncio.create_task(self._keep_looking(), name="revocations")

    async def stop(self) -> None:
        """Look no more, but for one last time where something is owed."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})
        if len(self._owed) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_LOOK):
                    await self._look(was_suspected=False)
        if len(self._owed) > 0:
            logger.error("%s signed-out sessions could not be brought to Redis before the end", len(self._owed))

    def fail_while_down(self) -> None:
        """Raise ``RevocationsUnavailableError`` while Redis cannot be used."""
        if self.problem is not None:
            raise RevocationsUnavailableError(self.problem)

    @contextmanager
    def noticing(self) -> Iterator[None]:
        """Send nothing while Redis is down, and look at it when a command fails or is given up."""
        self.fail_while_down()
        try:
            yield
        except RevocationsUnavailableError as error:
            self._suspected.set()
            raise RevocationsUnavailableError(f"Redis: {error}") from None
        except BaseException:
            self._suspected.set()
            raise

    def expect(self, marker: str | None) -> None:
        """Compare the marker that came with an answer, which is worth nothing if the list was lost meanwhile.

        Raises:
            RevocationsUnavailableError: it was. What each process knows is brought back by its next look.
        """
        if marker != self._marker:
            self._set_problem(LOST)
            self._suspected.set()
            raise RevocationsUnavailableError(LOST)

    async def _keep_looking(self) -> NoReturn:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_WHILE_UP_EVERY if self.problem is None else LOOK_EVERY):
                    await self._suspected.wait()
            was_suspected = self._suspected.is_set()
            self._suspected.clear()
            await self._look(was_suspected=was_suspected)

    async def _look(self, *, was_suspected: bool) -> None:
        """See whether Redis can be used.

        Args:
            was_suspected: something failed before, so that a failure now is an outage; else it is the first.
        """
        try:
            if self.problem is not None:
                await self._redis.look_up()
            await self._probe()
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

    async def _probe(self) -> None:
        """Try the commands, and owe everything to a Redis that is not, or may not be, the one that was told of it."""
        probed = await self._redis.probe()
        known, self._marker = self._marker, probed.marker
        if known not in {None, probed.marker}:
            self._is_down(LOST)
            self._complete_at = self._clock() + self._refill
        if probed.is_new_connection or known != probed.marker:
            await self._owed.add_all()

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

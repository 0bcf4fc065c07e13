"""Which sign-outs everywhere may begin: one at a time for a user, so many in all, and so many of a user in a minute."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Hashable
from contextlib import suppress
from typing import Any, NamedTuple

from starlette.responses import Response

from service.events.flood import TokenBuckets

MAX_FLIGHTS = 20
"""At the same time in one process."""
TIMEOUT = 9.5
"""Seconds from a call's arrival for Clerk; recording comes after it, and the answer is there within 10 s."""
MAX_WAIT = 4.0
"""Seconds that a call waits for other sign-outs to end; they are part of its ``TIMEOUT``."""
TIMEOUT_WHEN_STOPPING = 2.0
"""Seconds that Clerk is still asked once the service is stopping; the result is recorded and answered after them."""
PER_MINUTE = 5
"""Sign-outs of one user that may succeed."""
TRIES = 10
"""Of one user at once, whatever comes of them, and one more each second."""


class BusyError(Exception):
    """The work could not begin in time, or the service is stopping."""


class _Flight(NamedTuple):
    key: Hashable
    task: asyncio.Task[Response]
    time_limit: asyncio.Timeout


class SingleFlight:
    """Runs work once for all callers that ask for the same, and lets it go on when they leave."""

    def __init__(self) -> None:
        self._flights: dict[str, _Flight] = {}
        self._stopping = False

    async def do(
        self, owner: str, key: Hashable, work: Callable[[asyncio.Timeout], Coroutine[Any, Any, Response]]
    ) -> Response:
        """Do the work, or join the flight that does it. It goes on when the caller is cancelled.

        Args:
            owner: whose work it is; each has one flight at most.
            key: the same for the same work.
            work: enters the time limit that it is given, and returns an answer also when that expires.

        Raises:
            BusyError: it could not begin within ``MAX_WAIT``, or no more work may begin.
        """
        time_limit = asyncio.timeout_at(asyncio.get_running_loop().time() + TIMEOUT)
        with suppress(TimeoutError):
            async with asyncio.timeout(MAX_WAIT):
                while self._is_busy(owner, key):
                    tasks = [flight.task for flight in self._flights.values()]
                    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        flight = self._flights.get(owner)
        if self._is_busy(owner, key) or (flight is None and self._stopping):
            raise BusyError
        if flight is None:
            flight = _Flight(key, asyncio.create_task(work(time_limit), name="sign-out everywhere"), time_limit)
            self._flights[owner] = flight
            flight.task.add_done_callback(lambda _: self._flights.pop(owner))
        return await asyncio.shield(flight.task)

    def _is_busy(self, owner: str, key: Hashable) -> bool:
        flight = self._flights.get(owner)
        return len(self._flights) >= MAX_FLIGHTS if flight is None else flight.key != key

    def stop(self, within: float = TIMEOUT_WHEN_STOPPING) -> None:
        """Let nothing more begin, and have all time limits expire within so many seconds."""
        self._stopping = True
        until = asyncio.get_running_loop().time() + within
        for flight in self._flights.values():
            with suppress(RuntimeError):  # it has expired, or is no longer needed
                flight.time_limit.reschedule(min(until, flight.time_limit.when() or until))

    async def close(self) -> None:
        """Have all time limits expire now, and wait for the work to end."""
        self.stop(0.0)
        if self._flights:
            await asyncio.wait([flight.task for flight in self._flights.values()])


class SignOutLimit:
    """Bounds how often a user may sign out everywhere, so that no token can spend Clerk's quota for the instance.

    What fails is to be repeated soon, so it does not count as one of the five in a minute, only as a try.

    Args:
        clock: gives nanoseconds, and never goes back.
    """

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._successes = TokenBuckets(per_second=PER_MINUTE / 60, burst=PER_MINUTE, clock=clock)
        self._tries = TokenBuckets(per_second=1, burst=TRIES, clock=clock)

    def begin(self, user_id: str) -> int:
        """Give 0 if the user may sign out now, else the seconds after which they may."""
        if not self._successes.has_token(user_id):
            return 60 // PER_MINUTE
        return 0 if self._tries.take(user_id) else 1

    def succeed(self, user_id: str) -> None:
        """Count a sign-out that succeeded."""
        self._successes.take(user_id)

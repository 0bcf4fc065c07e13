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
    """Runs work once for all callers that ask for the same, and lets it go on when they leave.

    Args:
        max_flights: of all owners together; each has one at most.
    """

    def __init__(self, max_flights: int = MAX_FLIGHTS) -> None:
        self._max_flights = max_flights
        self._flights: dict[str, _Flight] = {}
        self._stopping = False

    async def do(
        self,
        owner: str,
        key: Hashable,
        work: Callable[[asyncio.Timeout], Coroutine[Any, Any, Response]],
        *,
        max_wait: float,
        deadline: float,
    ) -> Response:
        """Do the work, or join the flight that does it. It goes on when the caller is cancelled.

        Args:
            owner: whose work it is.
            key: the same for the same work.
            work: enters the time limit that it is given, and returns an answer also when that expires.
            max_wait: seconds to wait while other work of this owner, or too much of all, is under way.
            deadline: of the work, by the loop's clock; waiting counts.

        Raises:
            BusyError: it could not begin within ``max_wait``, or no more work may begin.
        """
        try:
            async with asyncio.timeout(max_wait):
                while self._is_busy(owner, key):
                    tasks = [flight.task for flight in self._flights.values()]
                    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            raise BusyError from None
        if (flight := self._flights.get(owner)) is None:
            if self._stopping:
                raise BusyError
            time_limit = asyncio.timeout_at(deadline)
            flight = _Flight(key, asyncio.create_task(work(time_limit), name="sign-out everywhere"), time_limit)
            self._flights[owner] = flight
            flight.task.add_done_callback(lambda _: self._flights.pop(owner))
        return await asyncio.shield(flight.task)

    def _is_busy(self, owner: str, key: Hashable) -> bool:
        flight = self._flights.get(owner)
        return len(self._flights) >= self._max_flights if flight is None else flight.key != key

    def stop(self, within: float) -> None:
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

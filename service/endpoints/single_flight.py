"""Runs work once for all callers that ask for the same, lets it go on when they leave, and bounds how much there is."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from contextlib import suppress
from typing import Any, Generic, NamedTuple, TypeVar

MAX_FLIGHTS = 20
"""At the same time in one process."""

Result = TypeVar("Result")


class BusyError(Exception):
    """The work could not begin in time, or the service is stopping."""


class _Flight(NamedTuple, Generic[Result]):
    key: Hashable
    task: "asyncio.Task[Result]"
    time_limit: asyncio.Timeout


class SingleFlight(Generic[Result]):
    """The work of one kind that is under way, at most one flight for each owner.

    Args:
        max_flights: of all owners together.
    """

    def __init__(self, max_flights: int = MAX_FLIGHTS) -> None:
        self._max_flights = max_flights
        self._flights: dict[str, _Flight[Result]] = {}
        self._stopping = False

    async def do(
        self,
        owner: str,
        key: Hashable,
        work: Callable[[asyncio.Timeout], Coroutine[Any, Any, Result]],
        *,
        max_wait: float,
        deadline: float,
    ) -> Result:
        """Do the work, or join the flight that does it. It goes on when the caller is cancelled.

        Args:
            owner: whose work it is.
            key: the same for the same work.
            work: enters the time limit that it is given, and returns a result also when that expires.
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
            flight = _Flight(key, asyncio.create_task(work(time_limit), name="single flight"), time_limit)
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

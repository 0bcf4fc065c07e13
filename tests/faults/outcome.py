"""What came of a load: every request is either answered or not, and of the latter is told how."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Self


class Failure(StrEnum):
    """Why a request got no answer."""

    REFUSED = "refused"
    """No connection came about; nothing was sent."""
    RESET = "reset"
    """The connection ended after the request was sent, and it was the connection's first."""
    STALE = "stale"
    """Likewise, but the connection had answered before: a server may close one that it takes for idle."""
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. Times are in seconds."""

    number: int
    """Which request: the number that its maker was called with."""
    sent: float
    """When the kernel had taken the whole request, on ``time.monotonic``."""
    latency: float
    """From the moment the request was due, not sent, so that a stall counts for all whom it kept waiting."""
    status: int
    event_id: str | None
    """None where the answer is not that of a logout."""
    recorded: bool


@dataclass(frozen=True, slots=True)
class Unanswered:
    """One request without an answer."""

    number: int
    failure: Failure
    sent: float | None
    """When the kernel had taken the whole request, on ``time.monotonic``; None if it never had."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """All requests of one load, in the order in which they ended."""

    answers: list[Answer]
    unanswered: list[Unanswered]

    @property
    def statuses(self) -> Counter[int]:
        return Counter(answer.status for answer in self.answers)

    @property
    def failures(self) -> Counter[Failure]:
        return Counter(request.failure for request in self.unanswered)

    @property
    def recorded(self) -> list[str]:
        """The ``event_id`` of each answer that says ``recorded: true``."""
        return [answer.event_id for answer in self.answers if answer.recorded and answer.event_id is not None]

    @property
    def p99(self) -> float:
        """Milliseconds that 99 % do not exceed (nearest rank); of unanswered requests it knows nothing."""
        latencies = sorted(answer.latency for answer in self.answers)
        return 1000 * latencies[math.ceil(0.99 * len(latencies)) - 1]

    @property
    def max(self) -> float:
        """Milliseconds."""
        return 1000 * max(answer.latency for answer in self.answers)

    def only(self, chosen: Callable[[int], bool]) -> Self:
        """The part whose request numbers are chosen."""
        return type(self)(
            [answer for answer in self.answers if chosen(answer.number)],
            [request for request in self.unanswered if chosen(request.number)],
        )

    def __add__(self, other: Self) -> Self:
        return type(self)(self.answers + other.answers, self.unanswered + other.unanswered)

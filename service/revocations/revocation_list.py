"""The revocation list: which sessions are signed out, for as long as a token of theirs could still pass.

It is keyed on the session, never on the token: a session has a new token every minute. Clerk ends the session; this
list covers the minute in which the tokens that Clerk has handed out already would still verify.
"""

import heapq
import logging
import math
import time
from collections.abc import Callable, Sequence

from service.telemetry.diagnostics import LogThrottle
from service.telemetry.metrics import Metrics

logger = logging.getLogger("service.revocations")

REVOCATIONS_TIMEOUT = 0.1
"""Seconds in which a store answers. A request that asks several times gives this much to all of them together."""
LEAST_SECONDS = 75
"""Clerk's session tokens live 60 s, clocks may differ by 5 s, and a token may have been handed out just now."""
MOST_SECONDS = 24 * 3600
MAX_SESSIONS = 100_000
"""With sessions that are kept for 75 s that is 1,300 logouts per second."""
MAX_STEPS = 100
"""Entries that one call looks at to make room: so few that the event loop is never held up."""


class RevocationsUnavailableError(Exception):
    """The store could not be asked, or did not answer in time. Its text is one line without a secret."""


class MemoryStore:
    """Keeps for each signed-out session when that was, and forgets it when its time is over: here, with this process.

    ``RedisStore`` shares it. There ``add`` and ``find`` raise ``RevocationsUnavailableError``, after
    ``REVOCATIONS_TIMEOUT`` or ``within`` seconds at the latest.

    Args:
        metrics: count the sessions that are forgotten before their time.
        max_sessions: how many are kept, and as many claims. Those that end soonest go first.
        clock: seconds since 1970.
    """

    problem: str | None = None
    """Why it cannot be used at the moment, in one line without a secret."""
    warning: str | None = None
    """What may go wrong with it, although it can be used."""

    def __init__(
        self,
        metrics: Metrics | None = None,
        *,
        max_sessions: int = MAX_SESSIONS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._metrics = metrics or Metrics()
        self._drops = self._metrics.revocations.labels("dropped")
        self._max_sessions = max_sessions
        self._throttle = LogThrottle()
        self._signed_out = ExpiringDict(max_sessions, clock=clock, on_dropped=self._dropped)
        self._claimed = ExpiringDict(max_sessions, clock=clock)

    async def start(self) -> None:
        """Say that it can be used."""
        self._metrics.revocations_up.set(1)

    async def add(self, session_ids: Sequence[str], *, at: float, seconds: float) -> None:
        """Put sessions on the list for so many seconds; one that is there keeps its earlier ``at`` and later end."""
        for session_id in session_ids:
            self._signed_out.put(session_id, at, seconds)

    async def find(self, session_id: str, *, within: float | None = None) -> float | None:  # noqa: ARG002 - never waits
        """Give when the session was signed out, in seconds since 1970, or None where it is not on the list."""
        entry = self._signed_out.get(session_id)
        return None if entry is None else entry[0]

    async def claim(self, session_id: str, *, seconds: int, within: float | None = None) -> bool:  # noqa: ARG002
        """Say whether this is the first claim for the session within so many seconds, over all who share the store.

        Where they cannot be asked in time, it is the first of this process: better claimed twice than by nobody.
        """
        if self._claimed.get(session_id) is not None:
            return False
        self._claimed.put(session_id, 0.0, seconds)
        return True

    async def close(self) -> None:
        """Let go of what it holds."""

    def _dropped(self) -> None:
        self._drops.inc()
        if self._throttle.may_say("full"):
            logger.error(
                "the revocation list of this process is full (%s sessions): those that end soonest are forgotten "
                "before their time, and their tokens pass for the rest of it",
                f"{self._max_sessions:,}",
            )


class RevocationList:
    """The list, over a store.

    Args:
        store: keeps it, and says what is wrong with it.
        metrics: counts what is put on it.
        clock: seconds since 1970.
        clock_skew: seconds by which the verifier lets clocks differ.
    """

    def __init__(
        self,
        store: MemoryStore,
        metrics: Metrics | None = None,
        *,
        clock: Callable[[], float] = time.time,
        clock_skew: int = 5,
    ) -> None:
        self.store = store
        self._clock = clock
        self._longest = max(LEAST_SECONDS, 60 + 2 * clock_skew)
        """The longest lifetime of a token seen so far, for those who know of none, as a webhook."""
        revoked = (metrics or Metrics()).revocations
        self._ok, self._failed = revoked.labels("ok"), revoked.labels("failed")
        self.signed_out_at = store.find
        self.is_first_report = store.claim

    async def revoke(
        self, session_ids: Sequence[str], *, at: float | None = None, token_lifetime: float | None = None
    ) -> bool:
        """Put sessions on the list, until no token of theirs can pass any longer: at least 75 s, at most 24 h.

        Args:
            session_ids: the sessions.
            at: when they were signed out, in seconds since 1970; now where that is later, or not known.
            token_lifetime: seconds for which a new token of theirs can pass; None for the longest seen so far.

        Returns:
            Whether they are on it for everybody who shares the store. An unavailable one brings them there later.
        """
        if token_lifetime is None:
            seconds = self._longest
        elif token_lifetime <= LEAST_SECONDS:
            seconds = LEAST_SECONDS
        else:
            # Rounded up: a token must not pass in the rest of its last second.
            seconds = math.ceil(min(token_lifetime, MOST_SECONDS))
            self._longest = max(self._longest, seconds)
        now = self._clock()
        try:
            await self.store.add(session_ids, at=now if at is None else min(at, now), seconds=seconds)
        except RevocationsUnavailableError:
            self._failed.inc(len(session_ids))
            return False
        self._ok.inc(len(session_ids))
        return True


class ExpiringDict:
    """Times by key, each kept until its end. When it is full, the one that ends soonest is dropped to make room.

    The clock is the wall clock, as for the tokens that an entry refuses: where it is set back, both last longer.
    """

    def __init__(
        self, max_size: int, *, clock: Callable[[], float], on_dropped: Callable[[], object] = lambda: None
    ) -> None:
        self._max_size = max_size
        self._clock = clock
        self._on_dropped = on_dropped
        self._entries: dict[str, tuple[float, float]] = {}
        """The time, and the end."""
        self._ends: list[tuple[float, str]] = []
        """A heap with one end for each key; where the end was moved since, it is set right when it comes up."""

    def get(self, key: str) -> tuple[float, float] | None:
        """Give the time, and the seconds that are left, while it lasts."""
        time, end = self._entries.get(key, (0.0, 0.0))
        left = end - self._clock()
        return (time, left) if left > 0 else None

    def put(self, key: str, time: float, seconds: float) -> None:
        """Put a time in; one that is there and lasts keeps the earlier time and the later end."""
        now = self._clock()
        until, before = now + seconds, self._entries.get(key)
        if before is None:
            if self._ends and (self._ends[0][0] <= now or len(self._entries) >= self._max_size):
                self._make_room(now)
            heapq.heappush(self._ends, (until, key))
        elif before[1] > now:
            time, until = min(before[0], time), max(before[1], until)
        self._entries[key] = time, until

    def keys(self) -> list[str]:
        """Give all keys; some of them may have ended."""
        return list(self._entries)

    def _make_room(self, now: float) -> None:
        for _ in range(MAX_STEPS):
            if not self._ends or (now < self._ends[0][0] and len(self._entries) < self._max_size):
                return
            end, key = self._ends[0]
            if (moved := self._entries[key][1]) > end:
                heapq.heapreplace(self._ends, (moved, key))
                continue
            heapq.heappop(self._ends)
            del self._entries[key]
            if now < end:
                self._on_dropped()

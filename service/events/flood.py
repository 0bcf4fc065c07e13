"""Flood control: nobody can fill the disk, and calls that prove nothing cannot crowd out those that do.

A client without a proven identity may have so many events recorded, and so may a session. What is over that is counted,
and the count is an event of its own, so that no call goes uncounted.
"""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress
from ipaddress import IPv6Address

from service.events.request import Address
from service.events.types import UserLogoutSuppressed, new_event_id, now
from service.telemetry.diagnostics import where
from service.telemetry.metrics import Metrics

logger = logging.getLogger("service.flood")

BURST_SECONDS = 10
"""So many seconds' worth may come at once."""
PROCESS_FACTOR = 4
"""How many clients at their limit the whole process records."""
WINDOW = 10.0
"""Seconds that one summary covers."""
AUTHS = ("verified", "expired", "unverifiable", "rejected", "absent")
SECOND = 1_000_000_000
"""In nanoseconds. Whole numbers, so that no rounding adds up."""
SWEEP_FROM = 1000
"""Buckets that are held before the full ones among them are looked for."""


class TokenBuckets:
    """One token bucket for each key. Of one key at most ``burst + per_second * t`` tokens are taken within t seconds.

    A bucket is the time at which it will be full again. A full one is as good as none and is forgotten, so the memory
    is bounded by what was taken lately. ``clock`` gives nanoseconds, and never goes back.
    """

    def __init__(self, *, per_second: float, burst: int, clock: Callable[[], int] = time.monotonic_ns) -> None:
        # Rounded up: rather a nanosecond slower than above the bound.
        self._per_token = math.ceil(SECOND / per_second)
        self._until_full = burst * self._per_token
        self._clock = clock
        self._full_at: dict[Hashable, int] = {}
        self._sweep_at = SWEEP_FROM

    def __len__(self) -> int:
        return len(self._full_at)

    def has_token(self, key: Hashable) -> bool:
        """Look whether ``take`` would give a token; takes none and remembers nothing."""
        now = self._clock()
        return max(self._full_at.get(key, now), now) + self._per_token - now <= self._until_full

    def take(self, key: Hashable) -> bool:
        """Take a token, if there is one."""
        now = self._clock()
        full_at = max(self._full_at.get(key, now), now) + self._per_token
        if full_at - now > self._until_full:
            return False
        if len(self._full_at) >= self._sweep_at:
            self._full_at = {key: full_at for key, full_at in self._full_at.items() if full_at > now}
            # Twice what is left: so a sweep costs each bucket that was added since the last one a constant.
            self._sweep_at = max(SWEEP_FROM, 2 * len(self._full_at))
        self._full_at[key] = full_at
        return True


class FloodControl:
    """Tells whether a call is recorded by itself, and counts those that are not.

    Every call gets a line of its own or is counted in exactly one summary, the one whose ``event_id`` it was told. A
    summary that was not recorded is tried again as it is, every 10 s; meanwhile the calls gather in one further window,
    which lasts until then.

    Args:
        per_second: what one client (an IPv4 address, an IPv6 /64) without a proven identity may have recorded; ten
            times as much at once.
        per_session: what one session may have recorded at once, and one more each second; 0 for any number.
        record: records a summary; tells, when awaited, whether it is recorded.
        metrics: counts what is suppressed.
        clock: see ``TokenBuckets``.
        window: seconds from the first suppressed call to its summary.
    """

    def __init__(
        self,
        per_second: int,
        per_session: int,
        record: Callable[[UserLogoutSuppressed], Awaitable[bool]],
        metrics: Metrics,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
        window: float = WINDOW,
    ) -> None:
        self._clients = TokenBuckets(per_second=per_second, burst=per_second * BURST_SECONDS, clock=clock)
        of_process = per_second * PROCESS_FACTOR
        self._process = TokenBuckets(per_second=of_process, burst=of_process * BURST_SECONDS, clock=clock)
        self._sessions = TokenBuckets(per_second=1, burst=per_session, clock=clock) if per_session else None
        self._record = record
        # From the start at 0, so that Prometheus sees the first increase, too.
        self._suppressed = {auth: metrics.suppressed.labels(auth) for auth in AUTHS}
        self._seconds = window
        self._open: UserLogoutSuppressed | None = None
        """The summary that counts calls now, from the first of them on."""
        self._writer: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    def admits(self, session_id: str | None, address: Callable[[], Address | None]) -> bool:
        """Tell whether this call is recorded by itself. A session's first call always is.

        Args:
            session_id: the session that the caller's token proves, if any.
            address: finds the client's address, where there is no session; all without an address count as one.
        """
        if session_id is not None:
            return self._sessions is None or self._sessions.take(session_id)
        # Looked at first: no bucket is kept for a client while the process has no room for it anyway. Taken from last:
        # a client over its own limit uses up nobody else's.
        return self._process.has_token(None) and self._clients.take(_client(address())) and self._process.take(None)

    def suppress(self, auth: str) -> str:
        """Count a call instead of recording it; return the ``event_id`` of the summary that counts it."""
        self._suppressed[auth].inc()
        if self._open is None:
            start = now()
            self._open = UserLogoutSuppressed(
                event_id=new_event_id(), timestamp=start, count=0, window_start=start, window_end=start
            )
        self._open.count += 1
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_summaries(), name="flood control")
        return self._open.event_id

    async def close(self) -> None:
        """Write at once what is still to be written. To be called when no more calls come."""
        self._closing.set()
        if self._writer is not None:
            await self._writer

    async def _write_summaries(self) -> None:
        while self._open is not None:
            await self._pause()
            summary, self._open = self._open, None
            summary.window_end = now()
            while not await self._write(summary):
                if self._closing.is_set():
                    missing = summary.count + (self._open.count if self._open else 0)
                    logger.error("%d suppressed calls could not be recorded", missing)
                    return
                await self._pause()
        self._writer = None

    async def _pause(self) -> None:
        """Wait for the end of a window, or for the end of all."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), self._seconds)

    async def _write(self, summary: UserLogoutSuppressed) -> bool:
        summary.timestamp = now()
        try:
            return await self._record(summary)
        except Exception as error:  # noqa: BLE001 - our own mistakes must not end the counting either
            logger.error("a summary was not recorded: %s", where(error))  # noqa: TRY400 - see where()
            return False


def _client(address: Address | None) -> bytes:
    """What counts as one client: who has an IPv6 network can have any address in its /64."""
    if address is None:
        return b""
    return address.packed[:8] if isinstance(address, IPv6Address) else address.packed

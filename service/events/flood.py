"""Flood control: what nobody proved can neither fill the disk nor crowd out what somebody did prove.

Whoever shows no valid token may have so many events recorded. What is over that is counted, and the count is an event
of its own, so that no call goes uncounted.
"""

import asyncio
import ipaddress
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from service.diagnostics import where
from service.events.types import UserLogoutSuppressed, new_event_id, now
from service.metrics import Metrics

logger = logging.getLogger("service.flood")

BURST_SECONDS = 10
"""Seconds over which the rate is counted: so many seconds' worth may come at once."""
PROCESS_FACTOR = 4
"""How many clients at their limit the whole process records."""
WINDOW = 10.0
"""Seconds that one summary covers."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(slots=True)
class _Window:
    event_id: str
    start: str
    count: int = 0


class FloodControl:
    """Says whether a call without a proven identity is recorded by itself, and counts those that are not.

    ``limits`` has no token bucket; its sliding window counter gives the same bound, at most ``burst + rate * t`` calls
    within ``t`` seconds, with two numbers a client, which it forgets after 20 s.

    Args:
        per_second: what one client (an IPv4 address, an IPv6 /64) may have recorded.
        record: records a summary; tells, when awaited, whether it is recorded.
        metrics: counts what is suppressed.
    """

    def __init__(
        self, per_second: int, record: Callable[[UserLogoutSuppressed], Awaitable[bool]], metrics: Metrics
    ) -> None:
        """Needs a running event loop."""
        self._client = RateLimitItemPerSecond(per_second * BURST_SECONDS, BURST_SECONDS)
        self._process = RateLimitItemPerSecond(per_second * BURST_SECONDS * PROCESS_FACTOR, BURST_SECONDS)
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._record = record
        # From the start at 0, so that Prometheus sees the first increase, too.
        self._suppressed = {auth: metrics.suppressed.labels(auth) for auth in ("absent", "rejected", "unverifiable")}
        self._loop = asyncio.get_running_loop()
        self._window: _Window | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._writing: set[asyncio.Task[None]] = set()

    def admits(self, address: Address | None) -> bool:
        """Tell whether this call is recorded by itself.

        Args:
            address: of the client; all whose address is unknown count as one.
        """
        # Looked at first: no number is kept for a client while the process has no room for him anyway. Taken from last:
        # a client over his own limit uses up nobody else's.
        return (
            self._limiter.test(self._process, "process")
            and self._limiter.hit(self._client, "client", _key(address))
            and self._limiter.hit(self._process, "process")
        )

    def suppress(self, auth: str) -> str:
        """Count a call instead of recording it.

        Args:
            auth: the verdict: ``absent``, ``rejected`` or ``unverifiable``.

        Returns:
            The ``event_id`` of the summary that will tell of it.
        """
        self._suppressed[auth].inc()
        if self._window is None:
            self._open(_Window(new_event_id(), now()))
        window = self._window
        assert window is not None, "just opened"  # noqa: S101 - tells mypy
        window.count += 1
        return window.event_id

    async def close(self) -> None:
        """Write what was counted so far."""
        for _ in range(2):  # once more for what was being refused in the first place
            self._end_window()
            while self._writing:
                await asyncio.wait(self._writing)
        if self._window is not None and self._timer is not None:
            self._timer.cancel()
            logger.error("%d suppressed calls could not be recorded", self._window.count)

    def _open(self, window: _Window) -> None:
        self._window = window
        self._timer = self._loop.call_later(WINDOW, self._end_window)

    def _end_window(self) -> None:
        window, self._window = self._window, None
        if self._timer is not None:
            self._timer.cancel()
        if window is not None:
            task = asyncio.create_task(self._write(window), name="flood summary")
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)

    async def _write(self, window: _Window) -> None:
        end = now()
        summary = UserLogoutSuppressed(
            event_id=window.event_id, timestamp=end, count=window.count, window_start=window.start, window_end=end
        )
        try:
            recorded = await self._record(summary)
        except Exception as error:  # noqa: BLE001 - what was counted must not be forgotten
            logger.error("a summary was not recorded: %s", where(error))  # noqa: TRY400 - see where()
            recorded = False
        if recorded:
            return
        # It goes into the next summary.
        if self._window is None:
            self._open(window)
        else:
            self._window.start = window.start
            self._window.count += window.count


def _key(address: Address | None) -> str:
    """What counts as one client: who has an IPv6 network can have any address in its /64."""
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((address, 64), strict=False))
    return str(address)

"""Flood control: calls that prove nothing are recorded up to a limit; above it they are counted in summary events."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from service.diagnostics import where
from service.events.token_buckets import TokenBuckets
from service.events.types import UserLogoutSuppressed, new_event_id, now
from service.metrics import Metrics

logger = logging.getLogger("service.flood")

WINDOW = 10
"""Seconds that one summary covers; also the burst, in seconds' worth of calls."""
CLIENTS = 4
"""The whole process may record as much as so many clients at their limit."""

Address = IPv4Address | IPv6Address


@dataclass(slots=True, kw_only=True)
class _Window:
    """Suppressed calls that one summary will count. It opens with the first of them."""

    event_id: str
    start: str
    end: str = ""
    count: int = 0


class FloodControl:
    """Decides on each call that proves nothing whether it is recorded, and counts those that are not.

    Every call gets a line of its own or is counted in exactly one summary, the one whose ``event_id`` it was told. A
    summary that was not recorded is tried again unchanged, every 10 s; meanwhile the calls gather in one further
    window, which lasts until then.

    Args:
        per_second: calls of one client that are recorded per second; ten times as many at once.
        record: records a summary; tells, when awaited, whether it was recorded.
        metrics: counts the suppressed calls.
        clock: gives nanoseconds, and never goes back.
        window: seconds from the first suppressed call to its summary.
    """

    def __init__(
        self,
        per_second: int,
        record: Callable[[UserLogoutSuppressed], Awaitable[bool]],
        metrics: Metrics,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
        window: float = WINDOW,
    ) -> None:
        self._clients = TokenBuckets(per_second=per_second, burst=per_second * WINDOW, clock=clock)
        self._process = TokenBuckets(per_second=per_second * CLIENTS, burst=per_second * CLIENTS * WINDOW, clock=clock)
        self._record = record
        self._metrics = metrics
        self._seconds = window
        self._open: _Window | None = None
        self._over: _Window | None = None
        self._closing = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None

    def suppress(self, address: Address | None, auth: str) -> str | None:
        """Decide on one call that proves nothing. Needs a running event loop.

        Args:
            address: the client's; calls without one share a limit.
            auth: the verdict, for the metric.

        Returns:
            None when the call is to be recorded; else the ``event_id`` of the summary that counts it.
        """
        client = _client(address)
        # In this order a stranger makes no bucket when nothing could be recorded anyway, and one client that is over
        # its own limit leaves the process's to the others.
        if self._process.has_token(None) and self._clients.take(client) and self._process.take(None):
            return None
        self._metrics.suppressed.labels(auth).inc()
        if self._open is None:
            self._open = _Window(event_id=new_event_id(), start=now())
        self._open.count += 1
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_summaries(), name="flood control")
        return self._open.event_id

    async def close(self) -> None:
        """Write at once what is still to be written. To be called when no more calls come."""
        self._closing.set()
        if self._writer is not None:
            await self._writer
        while self._over or self._open:
            if not await self._write_summary():
                missing = sum(window.count for window in (self._over, self._open) if window)
                logger.error("%d suppressed calls are counted in no event", missing)
                return

    async def _write_summaries(self) -> None:
        """Write a summary every 10 s, for as long as there is something to write."""
        while self._over or self._open:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._seconds):
                    await self._closing.wait()
            if self._closing.is_set():
                break
            await self._write_summary()
        self._writer = None

    async def _write_summary(self) -> bool:
        """Write the window that is over; where none is left from before, the open one is over now."""
        if self._over is None:
            self._over, self._open = self._open, None
            assert self._over is not None  # noqa: S101 - who calls has looked
            self._over.end = now()
        over = self._over
        summary = UserLogoutSuppressed(
            event_id=over.event_id, timestamp=now(), count=over.count, window_start=over.start, window_end=over.end
        )
        try:
            recorded = await self._record(summary)
        except Exception as error:  # noqa: BLE001 - our own mistakes must not end the counting either
            logger.error("a summary of suppressed calls was not recorded: %s", where(error))  # noqa: TRY400 - see where()
            recorded = False
        if recorded:
            self._over = None
        return recorded


def _client(address: Address | None) -> bytes:
    """Give what counts as one client: an IPv4 address, an IPv6 /64 (what one subscriber has), or nobody knows who."""
    if address is None:
        return b""
    if isinstance(address, IPv6Address):
        # IPv4 over a socket for both (RFC 4291, section 2.5.5.2); as IPv6 all of it would be one client.
        return address.ipv4_mapped.packed if address.ipv4_mapped else address.packed[:8]
    return address.packed

"""Opens what a check needs, for an application that is not this service, from the service's environment variables."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from prometheus_client import CollectorRegistry

from service.resources import check_settings, open_resources
from service.sessions.check import SessionCheck
from service.settings import Settings, load_settings
from service.telemetry.metrics import Metrics

logger = logging.getLogger("service.guard")


@asynccontextmanager
async def open_session_check(
    settings: Settings | None = None, registry: CollectorRegistry | None = None
) -> AsyncIterator[SessionCheck]:
    """Open keys, revocation list and event log, and give a check over them.

    Args:
        settings: what to open; without them the environment says it.
        registry: shows the guard's numbers with its own while the check is open.

    Raises:
        ConfigurationError: a setting is missing or unusable.
    """
    settings = settings or load_settings(for_guard=True)
    check_settings(settings)
    if settings.revocations_url.get_secret_value() == "memory://":
        logger.warning(
            "REVOCATIONS_URL is memory://, so this guard learns of no logout; set the service's redis:// URL"
        )
    metrics = Metrics()
    async with AsyncExitStack() as stack:
        if registry is not None:
            registry.register(metrics.registry)
            stack.callback(registry.unregister, metrics.registry)
        resources = await stack.enter_async_context(open_resources(settings, metrics))
        yield resources.session_check


class LazyCheck:
    """A check that is opened when it is first needed; one that somebody else opened is left to them."""

    def __init__(self, opened: SessionCheck | None = None, registry: CollectorRegistry | None = None) -> None:
        self.is_own = opened is None
        self._check = opened
        self._registry = registry
        self._stack = AsyncExitStack()
        self._lock = asyncio.Lock()

    async def get(self) -> SessionCheck:
        """Give the check, opened or not before; a ``ConfigurationError`` says why it cannot be."""
        if self._check is not None:
            return self._check
        async with self._lock:
            if self._check is None:  # else another request has opened it meanwhile
                self._check = await self._stack.enter_async_context(open_session_check(registry=self._registry))
            return self._check

    async def close(self) -> None:
        """Close what was opened here; a later request opens it anew."""
        if self.is_own:
            self._check = None
            await self._stack.aclose()

"""``GET /readyz``: logouts can be verified and recorded. Asks nobody, waits for nothing and writes no event."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import NoReturn

from starlette.requests import Request
from starlette.responses import Response

from service.endpoints.responses import JSONResponse
from service.endpoints.state import Part, State
from service.metrics import Metrics

LOOK_EVERY = 5.0
"""Seconds between two looks at the parts for the metric."""


async def readyz(request: Request[State]) -> Response:
    """Answer of each part ``ok`` or what is wrong with it: 200 when all are ok that logouts need, else 503.

    The other parts change no status: what is down for all replicas would take all of them out at once, and with them
    the logouts that work without it.
    """
    parts, other_parts = request.state["parts"], request.state["other_parts"]
    ready = not any(part.problem for part in parts.values())
    answer = {"status": "ready" if ready else "not ready"} | {
        name: part.problem or "ok" for name, part in (*parts.items(), *other_parts.items())
    }
    return JSONResponse(answer, status_code=200 if ready else 503)


@asynccontextmanager
async def readiness_counted(
    parts: Mapping[str, Part], metrics: Metrics, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
) -> AsyncIterator[None]:
    """Keep the metric true while the context lasts.

    A scrape reaches one of several workers, and often the same one each time; so each looks by itself.
    """
    looking = asyncio.create_task(_look(parts, metrics, sleep), name="readiness")
    try:
        yield
    finally:
        looking.cancel()
        await asyncio.wait({looking})


async def _look(parts: Mapping[str, Part], metrics: Metrics, sleep: Callable[[float], Awaitable[object]]) -> NoReturn:
    while True:
        metrics.ready.set(not any(part.problem for part in parts.values()))
        await sleep(LOOK_EVERY)

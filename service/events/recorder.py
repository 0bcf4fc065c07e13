"""Events become lines: structlog renders, the event log takes.

structlog's own loggers write inside the call, under a lock, and freeze the event loop when nobody reads the pipe;
``ainfo`` hands each line to a thread and so reorders them. Hence a logger whose ``info`` returns an awaitable.
"""

from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import orjson
import structlog

from service.events.types import Event
from service.telemetry.metrics import Children, Metrics


def _render(_logger: object, _method: str, event_dict: structlog.typing.EventDict) -> bytes:
    """Render an event's fields, and behind them what is bound to the logger."""
    fields: dict[str, object] = event_dict.pop("event").fields()
    fields.update(event_dict)
    # structlog's JSONRenderer writes the repr() of what is no JSON value; an event with such a field is a mistake.
    return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)


class Recorder:
    """Records events in one log.

    Args:
        append: takes a line; tells, when awaited, whether it was taken.
        service_version: goes into every line.
        metrics: where the recorded events are counted.
    """

    def __init__(self, append: Callable[[bytes], Awaitable[bool]], service_version: str, metrics: Metrics) -> None:
        self._logger = structlog.wrap_logger(
            SimpleNamespace(info=append),
            processors=[_render],
            wrapper_class=structlog.make_filtering_bound_logger(0),  # LOG_LEVEL must never filter an event
            context_class=dict,
        ).bind(service="clerk-logout", service_version=service_version)
        self._recorded = Children(metrics.events)

    async def record(self, event: Event) -> bool:
        """Record one event, and count it if it was recorded.

        Raises:
            ValueError: the line would not be one line of at most 4,095 bytes.
            TypeError: a field is no JSON value.
        """
        recorded: bool = await self._logger.info(event)
        if recorded:
            self._recorded[event.name, event.auth or "none", event.reason or "none"].inc()
        return recorded

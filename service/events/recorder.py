"""Events become lines: structlog renders, the event log takes.

structlog's own loggers write inside the call, under a lock, and freeze the event loop when nobody reads the pipe;
``ainfo`` hands each line to a thread and so reorders them. Hence a logger whose ``info`` returns an awaitable.
"""

from collections.abc import Awaitable
from typing import Any, Protocol

import orjson
import structlog

from service.events.types import Event
from service.telemetry.metrics import Children, Metrics

SERVICE = "clerk-logout"


class Log(Protocol):
    """What takes the lines."""

    def append(self, line: bytes) -> Awaitable[bool]:
        """Take one line; tell, when awaited, whether it was taken."""
        ...


class EventLogger:
    """The logger that structlog wraps."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def info(self, line: bytes) -> Awaitable[bool]:
        """Append a rendered line; tell, when awaited, whether it was taken."""
        return self._log.append(line)


class EventLoggerFactory:
    """A structlog ``logger_factory`` over one log."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def __call__(self, *_: Any) -> EventLogger:  # noqa: ANN401 - structlog's signature
        """Give a logger; structlog's positional arguments (a name) mean nothing here."""
        return EventLogger(self._log)


class _BoundEventLogger(structlog.BoundLoggerBase):
    """Has ``info`` only: an event has no level, and LOG_LEVEL must never filter one."""

    def info(self, fields: dict[str, object]) -> Awaitable[bool]:
        """Process and hand over one event; the wrapped logger's awaitable comes back.

        The fields come as one value: structlog copies every keyword twice.
        """
        (line,), _ = self._process_event("info", None, {"fields": fields})
        awaitable: Awaitable[bool] = self._logger.info(line)
        return awaitable


def _render(_logger: object, _method: str, event: structlog.typing.EventDict) -> bytes:
    """Render an event's fields and behind them what is bound to the logger."""
    fields: dict[str, object] = event.pop("fields")
    fields.update(event)
    # structlog's JSONRenderer writes the repr() of what is no JSON value; an event with such a field is a mistake.
    return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)


class Recorder:
    """Records events in one log.

    Args:
        log: takes the lines.
        service_version: goes into every line.
        metrics: where the recorded events are counted.
    """

    def __init__(self, log: Log, service_version: str, metrics: Metrics | None = None) -> None:
        self._logger: _BoundEventLogger = structlog.wrap_logger(
            EventLoggerFactory(log)(),
            processors=[_render],
            wrapper_class=_BoundEventLogger,
            context_class=dict,
        ).bind(service=SERVICE, service_version=service_version)
        self._recorded = Children((metrics or Metrics()).events)

    async def record(self, event: Event) -> bool:
        """Record one event, and count it if it was recorded.

        Returns:
            Whether the log took the line.

        Raises:
            ValueError: the line would not be one line of at most 4,095 bytes.
            TypeError: a field is no JSON value.
        """
        fields = event.fields()
        recorded = await self._logger.info(fields)
        if recorded:
            # An event that tells of no caller has neither of the two.
            auth, reason = fields.get("auth"), fields.get("reason")
            self._recorded[event.name, str(auth or "none"), str(reason or "none")].inc()
        return recorded

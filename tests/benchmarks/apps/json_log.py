"""structlog as its documentation ("Performance") sets it up for production, into the file that ``EVENT_LOG`` names."""

import logging
import os
from pathlib import Path

import orjson
import structlog


def open_log() -> structlog.typing.FilteringBoundLogger:
    """Give a logger; each of its lines is flushed to the file before the call returns."""
    file = Path(os.environ["EVENT_LOG"]).open("ab")  # noqa: SIM115 - open as long as the process lives
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(serializer=orjson.dumps),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.BytesLoggerFactory(file=file),
        cache_logger_on_first_use=True,
    )
    log: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return log

"""What the service says about itself: JSON lines on stderr, never on the event stream.

JSON, because a line may quote what a stranger sent, and JSON escapes every control character.
"""

from logging.config import dictConfig
from pathlib import PurePath
from typing import Any

import structlog


def logging_config(level: str) -> dict[str, Any]:
    """A ``logging.config`` dictionary; picklable, because uvicorn hands it to its workers.

    Args:
        level: ``debug``, ``info``, ``warning``, ``error`` or ``critical``.
    """
    shared = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "json": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": shared,
                "processors": [
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    structlog.processors.format_exc_info,
                    structlog.processors.EventRenamer("message"),
                    structlog.processors.JSONRenderer(),
                ],
            },
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "stream": "ext://sys.stderr", "formatter": "json"}},
        "loggers": {
            # httpx tells of every request at INFO.
            "httpx": {"level": "WARNING"},
            "httpcore": {"level": "WARNING"},
        },
        "root": {"level": level.upper(), "handlers": ["stderr"]},
    }


def configure_logging(level: str) -> None:
    """Send the standard library's logging to stderr as JSON lines."""
    dictConfig(logging_config(level))


def where(error: BaseException) -> str:
    """An unexpected error as ``ValueError in verifier.py:120``.

    Its message is left out on purpose: a library may quote in it what it was given, and that can be a token.
    """
    trace = error.__traceback__
    if trace is None:
        return type(error).__name__
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{type(error).__name__} in {PurePath(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"

"""What the service says about itself: JSON lines on stderr, never on the event stream.

JSON, because a line may quote what a stranger sent, and JSON escapes every control character.
"""

import logging
import threading
from contextlib import suppress
from logging.config import dictConfig
from pathlib import PurePath
from queue import Full, Queue
from typing import Any

import structlog

from service.telemetry.nonblocking import ATOMIC_WRITE, InheritedDescriptor

MAX_MESSAGE = 400
"""Characters of a message; as JSON escapes they are six times as many bytes at the most."""
MAX_WAITING = 1000
"""Diagnostics that wait for a file that does not answer; more are dropped."""
CLOSE_WITHIN = 0.25
"""Seconds to wait for such a file at the end."""
MAX_EXCEPTION = 1500
"""Characters of a traceback, counted from its end."""

_STRANGERS = ("Invalid HTTP request", "Unsupported upgrade request", "No supported WebSocket library")


def _cut(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Cut what is long before it becomes JSON, so that the line stays JSON."""
    event["event"] = str(event["event"])[:MAX_MESSAGE]
    if "exception" in event:
        event["exception"] = event["exception"][-MAX_EXCEPTION:]
    return event


class StderrHandler(logging.Handler):
    """Writes to stderr and never waits for its reader: a diagnostic that does not fit is dropped.

    Whoever reads the events often reads stderr too, and must not be able to stop the service by not reading.
    """

    def __init__(self) -> None:
        super().__init__()
        self._stderr: InheritedDescriptor | None = InheritedDescriptor(2)
        # A file on a disk that hangs holds a thread, not the event loop.
        self._lines: Queue[bytes | None] = Queue(MAX_WAITING)
        self._thread: threading.Thread | None = None
        if self._stderr.may_block:
            self._thread = threading.Thread(target=self._write_lines, name="stderr", daemon=True)
            self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, or drop it."""
        line = self.format(record).encode("utf-8", "backslashreplace")[: ATOMIC_WRITE - 1] + b"\n"
        if self._thread is not None:
            with suppress(Full):
                self._lines.put_nowait(line)
        elif self._stderr is not None:
            with suppress(OSError):  # its reader is behind or gone, and there is nowhere to say so
                self._stderr.write(line)

    def _write_lines(self) -> None:
        stderr = self._stderr
        assert stderr is not None, "it has just been opened"  # noqa: S101 - tells mypy
        while (line := self._lines.get()) is not None:
            with suppress(OSError):
                stderr.write(line)

    def close(self) -> None:
        """Close our own description of stderr."""
        super().close()
        stderr, self._stderr = self._stderr, None  # logging may close a handler twice
        if stderr is None:
            return
        if self._thread is not None:
            with suppress(Full):
                self._lines.put_nowait(None)
            self._thread.join(CLOSE_WITHIN)
            if self._thread.is_alive():
                return  # it hangs in a write, and the descriptor with it
        stderr.close()


class NoStrangers(logging.Filter):
    """Leaves out what uvicorn says about malformed requests: any stranger could fill the log with it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether the record is about ourselves."""
        return not record.getMessage().startswith(_STRANGERS)


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
                    _cut,
                    structlog.processors.EventRenamer("message"),
                    structlog.processors.JSONRenderer(),
                ],
            },
        },
        "filters": {"no strangers": {"()": NoStrangers}},
        "handlers": {"stderr": {"()": StderrHandler, "formatter": "json", "filters": ["no strangers"]}},
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

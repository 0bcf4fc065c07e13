"""What the service says about itself: lines on stderr, in JSON, which escapes every control character."""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import PurePath
from queue import Full, Queue

import structlog

from service.telemetry.nonblocking import ATOMIC_WRITE, InheritedDescriptor

MAX_MESSAGE = 400
"""Characters, of six bytes at the most as JSON escapes."""
MAX_TRACEBACK = 1500
"""Characters, counted from its end."""
MAX_WAITING = 1000
"""Lines that wait for a file on a disk that hangs; more are dropped."""
CLOSE_TIMEOUT = 0.25
"""Seconds to wait for such a disk at the end."""

_ABOUT_STRANGERS = ("Invalid HTTP request", "Unsupported upgrade request", "No supported WebSocket library")
"""What uvicorn says about malformed requests: any stranger could fill the log with it."""


class StderrHandler(logging.Handler):
    """Writes to stderr and never waits for its reader: a line that does not fit is dropped."""

    _write: Callable[[bytes], object] | None
    """Takes a line, or raises; None once this is closed."""

    def __init__(self) -> None:
        super().__init__()
        self._stderr = InheritedDescriptor(2)
        self._write = self._stderr.write
        self._thread: threading.Thread | None = None
        if self._stderr.may_block:  # a file: a disk that hangs shall hold a thread, not the event loop
            self._lines: Queue[bytes | None] = Queue(MAX_WAITING)
            self._write = self._lines.put_nowait
            self._thread = threading.Thread(target=self._write_lines, name="stderr", daemon=True)
            self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, or drop it: no log call may fail a request."""
        with suppress(Exception):
            line = self.format(record).encode("utf-8", "backslashreplace")[: ATOMIC_WRITE - 1] + b"\n"
            if self._write is not None:
                self._write(line)

    def _write_lines(self) -> None:
        while (line := self._lines.get()) is not None:
            with suppress(OSError):
                self._stderr.write(line)

    def close(self) -> None:
        """Close our own description of stderr; ``logging`` may call this twice."""
        super().close()
        if self._write is None:
            return
        self._write = None
        if self._thread is not None:
            with suppress(Full):
                self._lines.put_nowait(None)
            self._thread.join(CLOSE_TIMEOUT)
            if self._thread.is_alive():
                return  # it hangs in a write, and still has the descriptor
        self._stderr.close()


def configure_logging(level: str) -> None:
    """Send everything that goes through the standard library's ``logging`` to stderr, as JSON lines."""
    handler = StderrHandler()
    handler.addFilter(lambda record: not str(record.msg).startswith(_ABOUT_STRANGERS))
    # https://www.structlog.org/en/stable/standard-library.html, "Rendering using structlog-based formatters".
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
            ],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _bound,
                structlog.processors.EventRenamer("message"),
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    for name in ("httpx", "httpcore"):  # they tell of every request
        logging.getLogger(name).setLevel(logging.WARNING)


def _bound(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Cut what is long before it becomes JSON, so that the line stays JSON."""
    event["event"] = str(event["event"])[:MAX_MESSAGE]
    if "exception" in event:
        event["exception"] = event["exception"][-MAX_TRACEBACK:]
    return event


def where(error: BaseException) -> str:
    """Name an unexpected error as ``ValueError in verifier.py:120``; its message may quote a token."""
    trace = error.__traceback__
    if trace is None:
        return type(error).__name__
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{type(error).__name__} in {PurePath(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"

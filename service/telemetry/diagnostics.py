"""What the service says about itself: lines on stderr, in JSON, which escapes every control character."""

import logging
import math
import os
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import PurePath
from queue import Full, Queue

import structlog

ATOMIC_WRITE = 4096
"""Bytes that a pipe takes whole or not at all, also from several writers: Linux's ``PIPE_BUF`` (pipe(7))."""
MAX_MESSAGE = 400
"""Characters, of six bytes at the most as JSON escapes."""
MAX_TRACEBACK = 1500
"""Characters, counted from its end."""
MAX_WAITING = 1000
"""Lines that wait to be written; more are dropped."""
CLOSE_TIMEOUT = 0.25
"""Seconds to wait at the end for a reader who stopped, or a disk that hangs."""
LOG_INTERVAL = 60.0
"""Seconds between two diagnostics for the same reason."""

_ABOUT_STRANGERS = ("Invalid HTTP request", "Unsupported upgrade request", "No supported WebSocket library")
"""What uvicorn says about malformed requests: any stranger could fill the log with it."""


class StderrHandler(logging.Handler):
    """Writes to stderr in a thread, so that nobody waits for its reader or its disk; what does not fit is dropped."""

    def __init__(self) -> None:
        super().__init__()
        self._stderr = os.dup(2)
        self._lines: Queue[bytes | None] = Queue(MAX_WAITING)
        self._thread = threading.Thread(target=self._write_lines, name="stderr", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Have one line written, or drop it: no log call may fail a request."""
        with suppress(Exception):
            line = self.format(record).encode("utf-8", "backslashreplace")[: ATOMIC_WRITE - 1]
            self._lines.put_nowait(line + b"\n")

    def _write_lines(self) -> None:
        while (line := self._lines.get()) is not None:
            with suppress(OSError):
                os.write(self._stderr, line)
        os.close(self._stderr)

    def close(self) -> None:
        """Have what waits written, and our own descriptor closed; ``logging`` may call this twice."""
        super().close()
        with suppress(Full):
            self._lines.put_nowait(None)
        self._thread.join(CLOSE_TIMEOUT)  # longer, and it hangs in a write


def configure_logging(level: str) -> None:
    """Send everything that goes through the standard library's ``logging`` to stderr, as JSON lines."""
    handler = StderrHandler()
    handler.addFilter(lambda record: not str(record.msg).startswith(_ABOUT_STRANGERS))
    # https://www.structlog.org/en/stable/standard-library.html, "Rendering using structlog-based formatters".
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
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


class LogThrottle:
    """Keeps callers from filling the diagnostics: the same thing is said once a minute."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said_at: dict[str, float] = {}

    def may_say(self, reason: str) -> bool:
        """Tell whether to log for a reason now; reasons are remembered, so they are never text from outside."""
        now = self._clock()
        if now < self._said_at.get(reason, -math.inf) + LOG_INTERVAL:
            return False
        self._said_at[reason] = now
        return True


def where(error: BaseException) -> str:
    """Name an unexpected error as ``ValueError in verifier.py:120``; its message may quote a token."""
    frames = [*traceback.walk_tb(error.__traceback__)]
    if not frames:
        return type(error).__name__
    frame, line = frames[-1]
    return f"{type(error).__name__} in {PurePath(frame.f_code.co_filename).name}:{line}"

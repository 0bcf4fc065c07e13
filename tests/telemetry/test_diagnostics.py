"""What is said on stderr: JSON lines that are bounded, and that nobody waits for."""

import json
import logging
import os
import re
import threading
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from service.telemetry.diagnostics import (
    LOG_INTERVAL,
    MAX_WAITING,
    LogThrottle,
    StderrHandler,
    configure_logging,
    where,
)
from tests.support.processes import TIMEOUT

logger = logging.getLogger("service.test")
pytestmark = pytest.mark.usefixtures("logging_as_it_was")


def close_handlers() -> None:
    """A file is written to by a thread; a handler that is closed has written."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, StderrHandler):
            handler.close()


@pytest.fixture
def said(capfd: pytest.CaptureFixture[str]) -> Callable[[Callable[[], object]], dict[str, Any]]:
    """Does something and gives the one line that was said about it on stderr."""

    def while_(doing: Callable[[], object]) -> dict[str, Any]:
        before = {*threading.enumerate()}
        configure_logging("info")
        doing()
        close_handlers()
        for thread in {*threading.enumerate()} - before:  # on a slow machine it writes longer than a handler waits
            thread.join(TIMEOUT)
        captured = capfd.readouterr()
        (line,) = captured.err.splitlines()
        assert captured.out == ""
        said: dict[str, Any] = json.loads(line)
        return said

    return while_


def test_a_diagnostic_is_a_json_line_on_stderr(said: Any) -> None:
    line = said(lambda: logger.warning("%d were\r\n\x1b[31m lost", 3))
    assert line.pop("timestamp").endswith("Z")
    assert line == {"message": "3 were\r\n\x1b[31m lost", "level": "warning", "logger": "service.test"}


def test_a_long_diagnostic_is_cut_and_stays_json(said: Any) -> None:
    assert said(lambda: logger.warning("\x00" * 5000))["message"] == "\x00" * 400


def test_of_a_long_traceback_the_end_is_kept(said: Any) -> None:
    def fail() -> None:
        try:
            raise ValueError("x" * 5000 + "the end")
        except ValueError:
            logger.exception("failed")

    assert said(fail)["exception"].endswith("the end")


def test_strangers_and_mistakes_fill_no_log(said: Any) -> None:
    def talk() -> None:
        logging.getLogger("httpx").info("HTTP Request: GET …")
        logging.getLogger("httpcore.connection").debug("connect_tcp.started")
        logger.debug("below the level")
        logger.warning("%d", "three")
        logger.warning("said")

    assert said(talk)["message"] == "said"


def test_a_reader_who_stopped_holds_nobody_up() -> None:
    """What does not fit is dropped, the end does not wait, and what is written is whole lines."""
    reader, writer = os.pipe()
    stderr = os.dup(2)
    os.dup2(writer, 2)
    try:
        configure_logging("info")
    finally:
        os.dup2(stderr, 2)
    os.close(stderr)
    os.close(writer)
    for number in range(3 * MAX_WAITING):
        logger.warning("%d %s", number, "x" * 300)
    close_handlers()
    close_handlers()  # `logging` does that when it is configured anew, and once more at the end
    logger.warning("late")
    with open(reader, "rb") as pipe:  # noqa: PTH123 - a descriptor
        os.set_blocking(reader, False)
        lines = pipe.read().splitlines()
    assert 0 < len(lines) < 2 * MAX_WAITING
    numbers = [int(json.loads(line)["message"].removesuffix(f" {'x' * 300}")) for line in lines[:-1]]
    assert numbers == sorted({*numbers}), "in their order, whichever were dropped"


def test_an_error_is_named_by_type_and_place_only() -> None:
    with pytest.raises(orjson.JSONDecodeError) as caught:
        orjson.loads(b"eyJ.secret.token")
    assert re.fullmatch(r"JSONDecodeError in test_diagnostics\.py:\d+", where(caught.value))
    assert where(ValueError("never raised")) == "ValueError"


def test_the_same_is_said_once_a_minute() -> None:
    times = iter([5.0, 6.0, 6.0, 4.9 + LOG_INTERVAL, 5.0 + LOG_INTERVAL])
    throttle = LogThrottle(clock=lambda: next(times))
    reasons = ["no answer", "no answer", "too large", "no answer", "no answer"]
    assert [throttle.may_say(reason) for reason in reasons] == [True, False, True, False, True]

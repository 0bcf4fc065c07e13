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

from service.telemetry import diagnostics
from service.telemetry.diagnostics import MAX_WAITING, StderrHandler, configure_logging, where
from service.telemetry.nonblocking import InheritedDescriptor

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
        configure_logging("info")
        doing()
        close_handlers()
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


def test_strangers_and_clients_fill_no_log(said: Any) -> None:
    def talk() -> None:
        logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
        logging.getLogger("httpx").info("HTTP Request: GET …")
        logging.getLogger("httpcore.connection").debug("connect_tcp.started")
        logger.warning("said")

    assert said(talk)["message"] == "said"


def test_a_log_call_that_is_wrong_fails_nobody(said: Any) -> None:
    def mistake() -> None:
        logger.warning("%d", "three")
        logger.warning("said")

    assert said(mistake)["message"] == "said"


def test_a_pipe_that_nobody_reads_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit is dropped; what is written is whole lines."""
    reader, writer = os.pipe()
    monkeypatch.setattr(diagnostics, "InheritedDescriptor", lambda _: InheritedDescriptor(writer))
    configure_logging("info")
    for _ in range(1000):
        logger.warning("x" * 300)
    close_handlers()
    os.close(writer)
    with open(reader, "rb") as pipe:  # noqa: PTH123 - a descriptor
        lines = pipe.read().splitlines()
    assert 0 < len(lines) < 1000
    assert all(json.loads(line)["message"] == "x" * 300 for line in lines)


def test_a_closed_handler_says_nothing_and_can_be_closed_again(capfd: pytest.CaptureFixture[str]) -> None:
    """`logging` closes its handlers when it is configured anew and once more at the end."""
    handler = StderrHandler()
    handler.close()
    handler.close()
    handler.emit(logging.makeLogRecord({"msg": "late"}))
    assert capfd.readouterr().err == ""


def test_a_file_that_does_not_answer_holds_nobody_up(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More is said than is kept for it, and the end does not wait for it either."""
    writing, answer = threading.Event(), threading.Event()

    def hang(_: InheritedDescriptor, line: bytes) -> int:
        writing.set()
        assert answer.wait(30)
        return len(line)

    monkeypatch.setattr(InheritedDescriptor, "write", hang)
    monkeypatch.setattr(diagnostics, "CLOSE_TIMEOUT", 0)
    handler = StderrHandler()
    handler.emit(logging.makeLogRecord({"msg": "first"}))
    assert writing.wait(30)
    for _ in range(MAX_WAITING + 1):
        handler.emit(logging.makeLogRecord({"msg": "another"}))
    handler.close()
    answer.set()
    assert capfd.readouterr().err == ""


def test_what_is_below_the_level_is_not_said(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging("error")
    logger.warning("not said")
    logger.error("said")
    close_handlers()
    assert json.loads(capfd.readouterr().err)["message"] == "said"


def test_an_error_is_named_by_type_and_place_only() -> None:
    with pytest.raises(orjson.JSONDecodeError) as caught:
        orjson.loads(b"eyJ.secret.token")
    assert re.fullmatch(r"JSONDecodeError in test_diagnostics\.py:\d+", where(caught.value))
    assert where(ValueError("never raised")) == "ValueError"

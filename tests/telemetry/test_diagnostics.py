import json
import logging
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog

from service.telemetry.diagnostics import MAX_WAITING, StderrHandler, configure_logging, logging_config, where
from service.events.log import EventLog
from service.events.outputs import LogFile
from service.events.recorder import Recorder
from service.events.spool import Spool
from service.events.types import UserLogout, new_event_id, now
from service.telemetry.metrics import Metrics
from service.telemetry.nonblocking import InheritedDescriptor
from tests.support.lines import EventFile


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, which the test may configure."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in logging_config("info")["loggers"]:
        logging.getLogger(name).setLevel(logging.NOTSET)


def close_handlers() -> None:
    """A file is written to by a thread; a handler that is closed has written."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, StderrHandler):
            handler.close()


@pytest.fixture
def said(root: logging.Logger, capfd: pytest.CaptureFixture[str]) -> Callable[[Callable[[], object]], dict[str, Any]]:
    """Does something and gives the one line that was said about it on stderr."""
    del root

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


logger = logging.getLogger("service.test")


def test_a_diagnostic_is_a_json_line_on_stderr(said: Any) -> None:
    line = said(lambda: logger.warning("%d were lost", 3))
    assert line.pop("timestamp").endswith("Z")
    assert line == {"message": "3 were lost", "level": "warning", "logger": "service.test"}


def test_control_characters_in_a_diagnostic_are_escaped(said: Any) -> None:
    text = "one\r\ntwo\x1b[31m\x00"
    assert said(lambda: logger.warning("kid: %s", text))["message"] == f"kid: {text}"


def test_an_exception_becomes_part_of_its_line(said: Any) -> None:
    line = said(lambda: logger.error("it failed", exc_info=ValueError("broken")))
    assert line["message"] == "it failed"
    assert "ValueError: broken" in line["exception"]


def test_a_value_that_is_no_json_is_shown_as_text(said: Any) -> None:
    structlog_logger = structlog.wrap_logger(
        logger, processors=[structlog.stdlib.ProcessorFormatter.wrap_for_formatter]
    )
    assert said(lambda: structlog_logger.warning("odd", value=ValueError("x")))["value"] == "ValueError('x')"


@pytest.mark.parametrize("text", ["x", "é", "\x00"])
def test_a_long_diagnostic_is_cut_and_stays_json(said: Any, text: str) -> None:
    assert said(lambda: logger.warning(text * 5000))["message"] == text * 400


def test_of_a_long_traceback_the_end_is_kept(said: Any) -> None:
    def fail() -> None:
        try:
            raise ValueError("x" * 5000 + "the end")
        except ValueError:
            logger.exception("failed")

    assert said(fail)["exception"].endswith("the end")


def test_a_closed_handler_says_nothing_and_can_be_closed_again(capfd: pytest.CaptureFixture[str]) -> None:
    """`logging` closes its handlers when it is configured anew and once more at the end."""
    handler = StderrHandler()
    handler.close()
    handler.close()
    handler.emit(logging.makeLogRecord({"msg": "late"}))
    assert capfd.readouterr().err == ""


def test_a_closed_handler_of_a_pipe_says_nothing_either(capfd: pytest.CaptureFixture[str]) -> None:
    handler = StderrHandler()
    handler.close()
    handler._thread = None  # what is not a file has none
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
    monkeypatch.setattr("service.diagnostics.CLOSE_WITHIN", 0)
    handler = StderrHandler()
    handler.emit(logging.makeLogRecord({"msg": "first"}))
    assert writing.wait(30)
    for _ in range(MAX_WAITING + 1):
        handler.emit(logging.makeLogRecord({"msg": "another"}))
    handler.close()
    answer.set()
    assert capfd.readouterr().err == ""


def test_what_is_below_the_level_is_not_said(root: logging.Logger, capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging("error")
    logger.warning("not said")
    logger.error("said")
    close_handlers()
    assert root.level == logging.ERROR
    assert json.loads(capfd.readouterr().err)["message"] == "said"


@pytest.mark.usefixtures("root")
def test_the_http_client_does_not_tell_of_every_request(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging("debug")
    logging.getLogger("httpx").info("HTTP Request: GET …")
    logging.getLogger("httpcore.connection").debug("connect_tcp.started")
    assert capfd.readouterr().err == ""


@pytest.mark.usefixtures("root")
async def test_no_level_filters_an_event(events: EventFile, tmp_path: Path) -> None:
    configure_logging("critical")
    log = EventLog(LogFile(str(events.path)), Spool(str(tmp_path / "spool"), 1 << 30), Metrics())
    await log.start()
    logout = UserLogout(
        event_id=new_event_id(),
        timestamp=now(),
        auth="absent",
        reason="session-token-missing",
        who=None,
        facts={"request_id": "r", "trace_id": None, "origin": None},
    )
    assert await Recorder(log, "1").record(logout)
    await log.close()
    assert events.one()["event_id"] == logout.event_id


def test_the_configuration_survives_the_way_to_a_worker() -> None:
    """In a fresh process, as uvicorn's workers are."""
    program = (
        "import sys, pickle, logging, logging.config;"
        "logging.config.dictConfig(pickle.load(sys.stdin.buffer));"
        "logging.getLogger('service').info('hello')"
    )
    pickled = pickle.dumps(logging_config("info"))
    process = subprocess.run([sys.executable, "-c", program], input=pickled, capture_output=True, check=True)
    assert orjson.loads(process.stderr)["message"] == "hello"


def test_an_error_is_placed_where_it_was_raised_without_its_message() -> None:
    with pytest.raises(orjson.JSONDecodeError) as caught:
        orjson.loads(b"eyJ.secret.token")
    assert where(caught.value).startswith("JSONDecodeError in test_diagnostics.py:")
    assert "secret" not in where(caught.value)


def test_the_innermost_frame_is_the_place() -> None:
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads("nonsense")
    assert where(caught.value).startswith("JSONDecodeError in decoder.py:")


def test_an_error_that_was_never_raised_has_no_place() -> None:
    assert where(ValueError("secret")) == "ValueError"

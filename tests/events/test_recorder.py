import asyncio
import json
import logging
from collections.abc import Awaitable, Iterator, Mapping
from typing import Any, ClassVar

import pytest
import structlog
from prometheus_client import generate_latest

from service.events.recorder import EventLoggerFactory, Recorder
from service.events.types import UserLogout, new_event_id, now
from service.telemetry.metrics import Metrics
from tests.support.events import told
from tests.support.lines import read_line


class FakeLog:
    """Keeps the lines; says of each what it was told to say."""

    def __init__(self, *, takes: bool = True) -> None:
        self.lines: list[bytes] = []
        self._takes = takes

    def append(self, line: bytes) -> Awaitable[bool]:
        self.lines.append(line)
        taken = asyncio.get_running_loop().create_future()
        taken.set_result(self._takes)
        return taken


class Said:
    """An event that says anything."""

    name: ClassVar[str] = "said"

    def __init__(self, words: object) -> None:
        self._words = words

    def fields(self) -> dict[str, object]:
        return {"words": self._words}


def logout(**changes: Any) -> UserLogout:
    required = {"event_id": new_event_id(), "timestamp": now(), "auth": "rejected", "reason": "token-invalid"}
    return UserLogout(**told(required | {"request_id": "r"} | changes))


@pytest.fixture
def hostile_configuration() -> Iterator[None]:
    """structlog and logging configured by somebody who wants to hear nothing."""

    def drop(*_: object) -> Mapping[str, Any]:
        raise structlog.DropEvent

    silent = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(processors=[drop], wrapper_class=silent, context_class=dict)
    logging.disable(logging.CRITICAL)
    structlog.contextvars.bind_contextvars(token="eyJ.secret.token")
    yield
    structlog.contextvars.clear_contextvars()
    logging.disable(logging.NOTSET)
    structlog.reset_defaults()


async def test_the_keys_of_a_line_come_in_the_order_of_the_contract() -> None:
    log = FakeLog()
    await Recorder(log, "1.2.3").record(logout(client_ip="203.0.113.0", user_agent="curl"))
    assert list(json.loads(log.lines[0])) == [
        "event",
        "schema_version",
        "event_id",
        "dedupe_key",
        "timestamp",
        "auth",
        "reason",
        "user_id",
        "session_id",
        "org_id",
        "actor_id",
        "initiated_by",
        "source",
        "request_id",
        "trace_id",
        "origin",
        "client_ip",
        "user_agent",
        "service",
        "service_version",
    ]


async def test_a_line_says_which_event_and_which_service_it_is_from() -> None:
    log = FakeLog()
    await Recorder(log, "1.2.3").record(logout())
    line = read_line(log.lines[0])
    values = [line[key] for key in ("event", "schema_version", "service", "service_version")]
    assert values == ["user_logout", 1, "clerk-logout", "1.2.3"]


@pytest.mark.parametrize("takes", [True, False])
async def test_recording_tells_what_the_log_told(takes: bool) -> None:
    assert await Recorder(FakeLog(takes=takes), "1").record(logout()) is takes


@pytest.mark.parametrize("takes", [True, False])
async def test_only_an_event_that_was_recorded_is_counted(takes: bool) -> None:
    metrics = Metrics()
    await Recorder(FakeLog(takes=takes), "1", metrics).record(logout())
    labels = b'{auth="rejected",event="user_logout",reason="token-invalid"}'
    assert (b"clerk_logout_events_total%s 1.0" % labels in generate_latest(metrics.registry)) is takes


async def test_an_event_that_tells_of_no_caller_is_counted_too() -> None:
    metrics = Metrics()
    await Recorder(FakeLog(), "1", metrics).record(Said("hello"))
    labels = b'{auth="none",event="said",reason="none"}'
    assert b"clerk_logout_events_total%s 1.0" % labels in generate_latest(metrics.registry)


async def test_each_event_is_a_line_of_its_own() -> None:
    log = FakeLog()
    recorder = Recorder(log, "1")
    first, second = logout(), logout(user_id="u", session_id="s", auth="verified", reason=None)
    await recorder.record(first)
    await recorder.record(second)
    assert [read_line(line)["event_id"] for line in log.lines] == [first.event_id, second.event_id]


async def test_line_breaks_and_control_characters_are_escaped() -> None:
    words = "one\r\ntwo\x00\x1b[31m\u2028three"
    log = FakeLog()
    await Recorder(log, "1").record(Said(words))
    (line,) = log.lines
    assert not any(byte < 0x20 for byte in line[:-1])
    assert json.loads(line)["words"] == words


@pytest.mark.parametrize(
    "words", [pytest.param(object(), id="an object"), pytest.param("\ud800", id="a lone surrogate")]
)
async def test_what_is_no_json_is_refused(words: object) -> None:
    log = FakeLog()
    with pytest.raises(TypeError):
        await Recorder(log, "1").record(Said(words))
    assert log.lines == []


@pytest.mark.usefixtures("hostile_configuration")
async def test_no_level_and_no_configuration_filters_an_event() -> None:
    log = FakeLog()
    assert await Recorder(log, "1").record(logout())
    assert len(log.lines) == 1


@pytest.mark.usefixtures("hostile_configuration")
async def test_structlogs_context_variables_do_not_get_into_a_line() -> None:
    log = FakeLog()
    await Recorder(log, "1").record(logout())
    assert b"secret" not in log.lines[0]


def test_an_event_goes_through_structlog() -> None:
    assert isinstance(Recorder(FakeLog(), "1")._logger, structlog.BoundLoggerBase)


@pytest.mark.parametrize("wrapper", [None, structlog.make_filtering_bound_logger(logging.INFO)], ids=["any", "level"])
async def test_the_logger_factory_serves_a_structlog_logger_of_ones_own(wrapper: Any) -> None:
    log = FakeLog(takes=False)
    render = structlog.processors.JSONRenderer(serializer=lambda event, **_: json.dumps(event).encode() + b"\n")
    logger = structlog.wrap_logger(EventLoggerFactory(log)("name"), processors=[render], wrapper_class=wrapper)
    assert await logger.info("said", words="hello") is False
    assert json.loads(log.lines[0]) == {"event": "said", "words": "hello"}

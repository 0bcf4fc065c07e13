import asyncio
import json
import logging
from collections.abc import Awaitable, Iterator, Mapping
from typing import Any

import pytest
import structlog
from prometheus_client import generate_latest

from service.events.recorder import Recorder
from service.events.types import Event, UserLogout, UserLogoutSuppressed, new_event_id, now
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


def logout(**changes: Any) -> UserLogout:
    required = {"event_id": new_event_id(), "timestamp": now(), "auth": "rejected", "reason": "token-invalid"}
    token = {"authorized_party": None, "token_issued_at": None}
    return UserLogout(**told(required | token | {"request_id": "r"} | changes))


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
    line = read_line(log.lines[0])
    assert list(line) == [
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
        "authorized_party",
        "token_issued_at",
        "service",
        "service_version",
    ]
    assert (line["service"], line["service_version"]) == ("clerk-logout", "1.2.3")


SUMMARY = UserLogoutSuppressed(event_id="e", timestamp="t", count=1, window_start="a", window_end="b")


@pytest.mark.parametrize("takes", [True, False])
@pytest.mark.parametrize(
    ("event", "labels"),
    [
        (logout(), b'{auth="rejected",event="user_logout",reason="token-invalid"}'),
        (SUMMARY, b'{auth="none",event="user_logout_suppressed",reason="none"}'),
    ],
    ids=["a logout", "a summary"],
)
async def test_recording_tells_and_counts_what_the_log_took(event: Event, labels: bytes, *, takes: bool) -> None:
    metrics = Metrics()
    assert await Recorder(FakeLog(takes=takes), "1", metrics).record(event) is takes
    assert (b"clerk_logout_events_total%s 1.0" % labels in generate_latest(metrics.registry)) is takes


async def test_line_breaks_and_control_characters_are_escaped() -> None:
    words = "one\r\ntwo\x00\x1b[31m\u2028three"
    log = FakeLog()
    await Recorder(log, "1").record(logout(reason=words))
    (line,) = log.lines
    assert not any(byte < 0x20 for byte in line[:-1])
    assert json.loads(line)["reason"] == words


@pytest.mark.parametrize(
    "words", [pytest.param(object(), id="an object"), pytest.param("\ud800", id="a lone surrogate")]
)
async def test_what_is_no_json_is_refused(words: object) -> None:
    log = FakeLog()
    with pytest.raises(TypeError):
        await Recorder(log, "1").record(logout(reason=words))
    assert log.lines == []


@pytest.mark.usefixtures("hostile_configuration")
async def test_no_configuration_of_structlog_filters_or_changes_an_event() -> None:
    log = FakeLog()
    assert await Recorder(log, "1").record(logout())
    (line,) = log.lines
    assert b"secret" not in line

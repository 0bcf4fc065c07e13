import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import structlog
from prometheus_client import generate_latest

from service.events.recorder import Recorder
from service.events.types import Event, UserLogout, UserLogoutSuppressed, new_event_id, now
from service.telemetry.metrics import Metrics
from tests.support.events import told
from tests.support.lines import read_line


class Log:
    """Keeps the lines; says of each what it was told to say."""

    def __init__(self, *, takes: bool = True) -> None:
        self.lines: list[bytes] = []
        self._takes = takes

    async def append(self, line: bytes) -> bool:
        self.lines.append(line)
        return self._takes


def logout(**changes: Any) -> UserLogout:
    required = {"event_id": new_event_id(), "timestamp": now(), "auth": "rejected", "reason": "token-invalid"}
    token = {"authorized_party": None, "token_issued_at": None}
    return UserLogout(**told(required | token | {"request_id": "r"} | changes))


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
    assert await Recorder(Log(takes=takes).append, "1", metrics).record(event) is takes
    assert (b"clerk_logout_events_total%s 1.0" % labels in generate_latest(metrics.registry)) is takes


async def test_line_breaks_and_control_characters_are_escaped() -> None:
    words = "one\r\ntwo\x00\x1b[31m\u2028three"
    log = Log()
    await Recorder(log.append, "1", Metrics()).record(logout(reason=words))
    (line,) = log.lines
    assert not any(byte < 0x20 for byte in line[:-1])
    assert json.loads(line)["reason"] == words


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


@pytest.mark.usefixtures("hostile_configuration")
async def test_no_configuration_of_structlog_changes_an_event() -> None:
    log = Log()
    assert await Recorder(log.append, "1.2.3", Metrics()).record(logout())
    (line,) = log.lines
    assert b"secret" not in line
    assert list(read_line(line).items())[-2:] == [("service", "clerk-logout"), ("service_version", "1.2.3")]

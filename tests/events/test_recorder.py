"""What no word from outside, and nobody's configuration, changes about a line."""

import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import structlog
from prometheus_client import generate_latest

from service.events.recorder import Recorder
from service.telemetry.metrics import Metrics
from tests.events.test_schemas import ABSENT, NO_TOKEN, line_of, made
from tests.support.lines import read_line


def test_line_breaks_and_control_characters_are_escaped() -> None:
    words = "one\r\ntwo\x00\x1b[31m\u2028three"
    line = line_of(made("user_logout", ABSENT | NO_TOKEN | {"reason": words}))
    assert not any(byte < 0x20 for byte in line[:-1])
    assert json.loads(line)["reason"] == words


async def test_a_summary_is_counted_with_none_for_its_verdict() -> None:
    async def append(_: bytes) -> bool:
        return True

    metrics = Metrics()
    assert await Recorder(append, "1", metrics).record(made("user_logout_suppressed", {}))
    labels = b'{auth="none",event="user_logout_suppressed",reason="none"}'
    assert b"clerk_logout_events_total%s 1.0" % labels in generate_latest(metrics.registry)


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
def test_no_configuration_of_structlog_changes_an_event() -> None:
    line = line_of(made("user_logout", ABSENT | NO_TOKEN))
    assert b"secret" not in line
    assert list(read_line(line).items())[-2:] == [("service", "clerk-logout"), ("service_version", "1.2.3")]

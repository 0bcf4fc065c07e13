import re
import uuid
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from service.events.types import (
    Facts,
    SessionUsedAfterLogout,
    UserLogout,
    UserLogoutSuppressed,
    new_event_id,
    now,
    timestamp_of,
)
from tests.support.events import told

EVENT_ID = "01990000-0000-7000-8000-000000000000"
IDENTITY = {"user_id": "user_2xyzUVW", "session_id": "sess_2abcDEF"}
FACTS: Facts = {"request_id": "r", "trace_id": None, "origin": None}


def fields(**changes: Any) -> dict[str, object]:
    """The fields of a logout without identity, unless told otherwise."""
    required = {"event_id": EVENT_ID, "timestamp": now(), "auth": "absent", "reason": None, "request_id": "r"}
    return UserLogout(**told(required | changes)).fields()


def test_the_keys_come_in_the_order_of_the_contract() -> None:
    assert list(fields()) == [
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
    ]


@pytest.mark.parametrize("name", ["client_ip", "user_agent"])
def test_an_optional_key_is_there_only_with_a_value(name: str) -> None:
    assert name not in fields()
    assert fields(**{name: ""})[name] == ""


@pytest.mark.parametrize(
    ("identity", "dedupe_key", "initiated_by"),
    [
        pytest.param({}, EVENT_ID, None, id="nobody is proven"),
        pytest.param(IDENTITY, "user_logout:sess_2abcDEF", "user", id="the user"),
        pytest.param(
            {**IDENTITY, "actor_id": "user_2support"}, "user_logout:sess_2abcDEF", "admin", id="acting as the user"
        ),
    ],
)
def test_what_follows_from_the_identity(identity: dict[str, str], dedupe_key: str, initiated_by: str | None) -> None:
    found = fields(**identity)
    assert (found["dedupe_key"], found["initiated_by"]) == (dedupe_key, initiated_by)


def test_a_summary_claims_nothing_about_single_calls() -> None:
    summary = UserLogoutSuppressed(event_id=EVENT_ID, timestamp="c", count=3, window_start="a", window_end="b").fields()
    assert list(summary) == [*fields(), "count", "window_start", "window_end"]
    assert {key: value for key, value in summary.items() if value is not None} == {
        "event": "user_logout_suppressed",
        "source": "frontend",
        "schema_version": 1,
        "event_id": EVENT_ID,
        "dedupe_key": EVENT_ID,
        "timestamp": "c",
        "count": 3,
        "window_start": "a",
        "window_end": "b",
    }


def test_the_time_is_now_in_utc_with_microseconds() -> None:
    text = now()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", text, re.ASCII)
    assert abs(datetime.fromisoformat(text) - datetime.now(UTC)) < timedelta(seconds=5)


def test_event_ids_are_uuids_v7_in_the_order_in_which_they_were_made() -> None:
    ids = [new_event_id() for _ in range(10_000)]
    assert {(uuid.UUID(event_id).version, uuid.UUID(event_id).variant) for event_id in ids} == {(7, uuid.RFC_4122)}
    assert all(earlier < later for earlier, later in pairwise(ids))


@pytest.mark.parametrize(
    ("seconds", "timestamp"),
    [
        (1_790_000_000.25, "2026-09-21T14:13:20.250000Z"),
        (0, "1970-01-01T00:00:00.000000Z"),
        (-(10**300), "0001-01-01T00:00:00.000000Z"),
        (10**300, "9999-12-31T23:59:59.000000Z"),
        (253_402_300_800, "9999-12-31T23:59:59.000000Z"),
    ],
)
def test_a_time_out_of_all_calendars_becomes_the_nearest(seconds: float, timestamp: str) -> None:
    assert timestamp_of(seconds) == timestamp


def test_a_use_after_logout_adds_when_both_were() -> None:
    when = now()
    about = told({"event_id": EVENT_ID, "timestamp": when, "request_id": "r", **IDENTITY})
    event = SessionUsedAfterLogout(**about, logged_out_at=when, token_issued_at=when, issued_after_logout=True)
    logout = UserLogout(**about)
    assert {key: value for key, value in event.fields().items() if key not in logout.fields()} == {
        "logged_out_at": when,
        "token_issued_at": when,
        "issued_after_logout": True,
    }
    assert event.fields()["dedupe_key"] == "session_used_after_logout:sess_2abcDEF"

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


def test_the_optional_keys_come_last() -> None:
    assert list(fields(client_ip="203.0.113.0", user_agent="curl"))[-3:] == ["origin", "client_ip", "user_agent"]


@pytest.mark.parametrize("name", ["client_ip", "user_agent"])
def test_an_optional_key_is_there_only_with_a_value(name: str) -> None:
    assert name not in fields()
    assert fields(**{name: ""})[name] == ""


def test_two_logouts_of_one_session_share_the_dedupe_key() -> None:
    first, second = (fields(event_id=new_event_id(), **IDENTITY) for _ in range(2))
    assert first["dedupe_key"] == second["dedupe_key"] == "user_logout:sess_2abcDEF"
    assert first["event_id"] != second["event_id"]


def test_without_identity_the_dedupe_key_is_the_event_id() -> None:
    assert fields()["dedupe_key"] == EVENT_ID


@pytest.mark.parametrize(
    ("identity", "initiated_by"),
    [
        pytest.param({}, None, id="nobody is proven"),
        pytest.param(IDENTITY, "user", id="the user"),
        pytest.param({**IDENTITY, "actor_id": "user_2support"}, "admin", id="somebody acting as the user"),
    ],
)
def test_who_initiated_it_follows_from_the_identity(identity: dict[str, str], initiated_by: str | None) -> None:
    assert fields(**identity)["initiated_by"] == initiated_by


def test_the_source_is_the_frontend() -> None:
    assert fields()["source"] == "frontend"


def test_a_summary_has_the_keys_of_a_logout_and_its_own() -> None:
    summary = UserLogoutSuppressed(event_id=EVENT_ID, timestamp="c", count=3, window_start="a", window_end="b").fields()
    assert list(summary) == [*fields(), "count", "window_start", "window_end"]


def test_a_summary_claims_nothing_about_single_calls() -> None:
    summary = UserLogoutSuppressed(event_id=EVENT_ID, timestamp="c", count=3, window_start="a", window_end="b").fields()
    assert {key: value for key, value in summary.items() if value is not None} == {
        "event": "user_logout_suppressed",
        "schema_version": 1,
        "event_id": EVENT_ID,
        "dedupe_key": EVENT_ID,
        "timestamp": "c",
        "source": "frontend",
        "count": 3,
        "window_start": "a",
        "window_end": "b",
    }


def test_each_line_of_an_event_has_fields_of_its_own() -> None:
    event = UserLogout(event_id=EVENT_ID, timestamp=now(), who=None, facts=FACTS)
    before = event.fields()
    event.fields()["service"] = "clerk-logout"
    assert event.fields() == before
    assert FACTS == {"request_id": "r", "trace_id": None, "origin": None}


def test_the_time_is_utc_with_microseconds_and_z() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", now(), re.ASCII)


def test_the_time_is_now() -> None:
    assert abs(datetime.fromisoformat(now()) - datetime.now(UTC)) < timedelta(seconds=5)


def test_an_event_id_is_a_uuid_v7() -> None:
    event_id = uuid.UUID(new_event_id())
    assert (event_id.version, event_id.variant) == (7, uuid.RFC_4122)


def test_event_ids_sort_by_the_order_in_which_they_were_made() -> None:
    ids = [new_event_id() for _ in range(10_000)]
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

import re
import uuid
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from service.events.types import UserLogoutSuppressed, new_event_id, now, timestamp_of


def test_a_summary_claims_nothing_about_single_calls() -> None:
    summary = UserLogoutSuppressed(event_id="e", timestamp="c", count=3, window_start="a", window_end="b").fields()
    assert {key: value for key, value in summary.items() if value is not None} == {
        "event": "user_logout_suppressed",
        "source": "frontend",
        "schema_version": 1,
        "event_id": "e",
        "dedupe_key": "e",
        "timestamp": "c",
        "count": 3,
        "window_start": "a",
        "window_end": "b",
    }


def test_the_time_is_now_in_utc_with_microseconds() -> None:
    text = now()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", text, re.ASCII)
    assert abs(datetime.fromisoformat(text) - datetime.now(UTC)) < timedelta(seconds=5)


def test_event_ids_are_uuids_v7_in_the_order_of_their_making() -> None:
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

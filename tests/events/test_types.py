from datetime import UTC, datetime, timedelta

import pytest

from service.events.types import now, timestamp_of


def test_the_time_is_now_in_utc() -> None:
    assert abs(datetime.fromisoformat(now()) - datetime.now(UTC)) < timedelta(seconds=5)


@pytest.mark.parametrize(
    ("seconds", "timestamp"),
    [
        (1_790_000_000.25, "2026-09-21T14:13:20.250000Z"),
        (-(10**300), "0001-01-01T00:00:00.000000Z"),
        (253_402_300_800, "9999-12-31T23:59:59.000000Z"),
    ],
)
def test_a_time_out_of_all_calendars_becomes_the_nearest(seconds: float, timestamp: str) -> None:
    assert timestamp_of(seconds) == timestamp

"""The figures are those of the plan, in DuckDB, ClickHouse and ``--json``."""

import gzip
import json
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import jsonschema_rs
import pytest

from service.events.schemas import schemas
from service.report import database
from service.report.database import questions
from tests.report.conftest import Report, clickhouse_answers, duckdb_answers
from tests.report.plan import Plan, make_plan, timestamp

Line = dict[str, object]
Lines = Callable[..., Path]


def moment(text: str = "12:00", day: int = 21) -> str:
    return f"2026-11-{day}T{text}:00.000000Z"


def called(
    session: str | None = "s1", at: str = moment(), auth: str | None = "verified", **more: object
) -> dict[str, object]:
    identity = {"session_id": session, "user_id": f"user of {session}"} if session else {}
    known = {"event": "user_logout", "event_id": f"call {session} {at} {auth}", "timestamp": at, "auth": auth}
    return known | identity | {"initiated_by": "user"} | more


def ended(session: str = "s1", at: str = moment(), **more: object) -> Line:
    known = {"event": "session_ended", "event_id": f"end {session} {at}", "timestamp": at, "auth": "verified"}
    return known | {"session_id": session, "user_id": f"user of {session}", "ended_at": at, "cause": "removed"} | more


def test_the_plan_holds_to_the_schemas() -> None:
    for _, line in make_plan(15, 2_000).lines:
        if line.startswith('{"event":"') and line.endswith("}") and "service" in line:
            event = json.loads(line)
            schema = schemas()[event["event"]]
            if event["initiated_by"] in schema["properties"]["initiated_by"].get("enum", [event["initiated_by"]]):
                jsonschema_rs.validate(schema, event)


def test_the_sample_is_the_plan() -> None:
    assert gzip.decompress(Path("docs/sample.jsonl.gz").read_bytes()).decode() == make_plan(15, 2_000).text()


@pytest.mark.parametrize("timezone", ["UTC", "America/New_York"])
def test_both_engines_give_the_same_answers(planned: Path, tmp_path: Path, timezone: str) -> None:
    ours = duckdb_answers(planned, tmp_path, timezone, questions())
    theirs = clickhouse_answers(planned, tmp_path / "clickhouse", timezone, questions())
    assert all(ours.values())
    # ClickHouse's table drops repeated lines when it pleases: how many came is known to who read them.
    assert [row[0::2][:2] for row in theirs.pop("input")] == [row[0::2][:2] for row in ours.pop("input")]
    assert theirs == ours


def test_the_figures_are_those_of_the_plan(planned: Path, plan: Plan, figures: Report) -> None:
    found = figures(planned)
    told = plan.told()
    assert found["input"]["lines"] == len(plan.lines)
    assert found["input"]["bad_lines"] == plan.bad
    assert found["input"]["repeated_lines"] == plan.repeated
    assert {row["event"]: row["events"] for row in found["input"]["by_event"]} == plan.events
    logouts = found["logouts"]
    assert logouts["logouts"] == len(plan.sessions)
    assert logouts["people"] == len({session.user_id for session in plan.sessions})
    assert {name: logouts[f"told_by_{name}"] for name in told} == told
    assert logouts["verified"] == sum(session.verdict == "verified" for session in plan.sessions)
    assert logouts["expired"] == sum(session.verdict == "expired" for session in plan.sessions)
    unconfirmed = sum(session.verdict == "expired" and session.told_by == "call" for session in plan.sessions)
    assert logouts["expired_and_unconfirmed"] == unconfirmed > 0
    assert logouts["everywhere"] == plan.everywhere["all"]


def test_logouts_belong_to_the_day_of_the_earlier_end(planned: Path, plan: Plan, figures: Report) -> None:
    rows = figures(planned, "--timezone", "Asia/Tokyo")["logouts_by_day"]
    names = ("both", "call", "webhook")
    found = {row["day"]: {name: row[f"told_by_{name}"] for name in names} | {"people": row["people"]} for row in rows}
    assert found == plan.days("Asia/Tokyo")
    assert all(row["logouts"] == sum(row[f"told_by_{name}"] for name in names) for row in rows)


def test_breakdowns_are_those_of_the_plan(planned: Path, plan: Plan, figures: Report) -> None:
    found = figures(planned)
    for question, key in (("origin", "origin"), ("cause", "cause"), ("initiator", "initiated_by")):
        truth = Counter(getattr(session, key) for session in plan.sessions)
        assert {row[key]: row["logouts"] for row in found[f"logouts_by_{question}"]} == truth
    hours = Counter(session.logged_out_at.hour for session in plan.sessions)
    assert {row["hour"]: row["logouts"] for row in found["logouts_by_hour"]} == hours
    assert {(row["auth"], row["reason"]): row["calls"] for row in found["calls_by_verdict"]} == plan.calls
    recorded, suppressed = sum(plan.calls.values()), sum(plan.suppressed.values())
    assert found["calls"] == {"recorded": recorded, "suppressed": suppressed, "calls": recorded + suppressed}
    assert {row["day"]: row["calls"] for row in found["suppressed_calls_by_day"]} == plan.suppressed
    assert {row["token_age"]: row["calls"] for row in found["expired_calls_by_token_age"]} == plan.ages
    assert {row["scope"]: row["sign_outs"] for row in found["sign_outs_everywhere"]} == plan.everywhere
    assert {row["scope"]: row["revoked_sessions"] for row in found["sign_outs_everywhere"]} == plan.revoked
    assert found["used_after_logout"] == {
        "sessions": len(plan.used),
        "events": len(plan.used),
        "issued_after_logout": sum(never_ended for _, never_ended in plan.used),
    }


def test_percentiles_are_nearest_ranks_and_buckets_have_bounds(lines: Lines, figures: Report) -> None:
    delays = [-1, 0, 999, 1_000, 4_999, 5_000, 59_999, 60_000, 3_600_000, 86_400_000]
    start = datetime(2026, 11, 21, tzinfo=ZoneInfo("UTC"))
    ends = [timestamp(start + timedelta(milliseconds=delay)) for delay in delays]
    events = [
        event
        for number, end in enumerate(ends)
        for event in (called(f"s{number}", timestamp(start)), ended(f"s{number}", end))
    ]
    found = figures(lines(*events))
    assert [(row["ended"], row["logouts"]) for row in found["confirmation"]] == [
        ("before the call", 1),
        ("within 1 s", 2),
        ("1 s to 5 s", 2),
        ("5 s to 1 min", 2),
        ("1 min to 1 h", 1),
        ("1 h to 1 day", 1),
        ("after 1 day", 1),
    ]
    assert list(found["confirmation_percentiles"].values()) == [4_999, 3_600_000, 86_400_000]


def test_shares_of_lost_calls_and_webhooks_are_exact(lines: Lines, figures: Report) -> None:
    events = []
    for number in range(1_000):
        at = moment(f"{number % 24:02d}:00")
        events += [called(f"s{number}", at)] if number % 10 else []
        events += [ended(f"s{number}", at)] if number % 20 != 1 else []
    coverage = figures(lines(*events))["coverage"]
    assert coverage["logouts"] == 1_000
    assert (coverage["without_call_share"], coverage["without_webhook_share"]) == (0.1, 0.05)
    assert (coverage["calls_missing_share"], coverage["webhooks_missing_share"]) == (100 / 950, 50 / 900)


@pytest.mark.parametrize(
    ("events", "is_logout"),
    [
        ([called()], True),
        ([called(auth="expired")], True),
        ([ended()], True),
        ([called(event="user_logout_everywhere", scope="all")], True),
        ([called(event="user_logout_everywhere", scope="others")], False),
        ([called(None, auth="rejected")], False),
        ([called("s1", auth="rejected")], False),
        ([called(None, event="user_logout_suppressed", auth=None, count=7)], False),
        ([called(event="session_used_after_logout")], False),
    ],
)
def test_what_a_logout_is(lines: Lines, figures: Report, events: list[dict[str, object]], *, is_logout: bool) -> None:
    assert figures(lines(*events))["logouts"]["logouts"] == is_logout


def test_a_session_is_one_logout_however_often_it_is_told(lines: Lines, figures: Report) -> None:
    again = ended(at=moment(day=22), event_id=ended()["event_id"], ended_at=moment())
    events = [called(), called(), called(at=moment("13:00")), called(auth="expired"), ended(), again]
    found = figures(lines(*events))
    assert found["logouts"]["logouts"] == found["logouts"]["told_by_both"] == found["logouts"]["verified"] == 1
    assert [row["day"] for row in found["logouts_by_day"]] == ["2026-11-21"]
    assert found["input"]["repeated_lines"] == 2


def test_the_first_end_says_day_cause_and_origin(lines: Lines, figures: Report) -> None:
    first = ended(at=moment("23:00", 20), cause="revoked")
    late = called(at=moment("01:00"), origin="https://late")
    found = figures(lines(late, called(at=moment("00:30"), origin="https://early"), ended(at=moment("02:00")), first))
    assert [row["day"] for row in found["logouts_by_day"]] == ["2026-11-20"]
    assert [row["cause"] for row in found["logouts_by_cause"]] == ["revoked"]
    assert [row["origin"] for row in found["logouts_by_origin"]] == ["https://early"]


@pytest.mark.parametrize(
    ("told", "initiator"),
    [(["user", "admin"], "admin"), (["admin", "agent"], "agent"), (["user", None], "user"), ([None], None)],
)
def test_nobody_blames_the_user_for_an_admin(lines: Lines, figures: Report, told: list[str], initiator: str) -> None:
    events = [ended(initiated_by=who, event_id=f"e{number}") for number, who in enumerate(told)]
    (row,) = figures(lines(*events))["logouts_by_initiator"]
    assert row["initiated_by"] == initiator


def test_a_window_takes_whole_sessions(lines: Lines, figures: Report) -> None:
    before = [called("before", moment("23:59", 20)), ended("before", moment("00:01"))]
    within = [called("within", moment("00:00")), ended("within", moment("00:01", 22), ended_at=moment("00:01"))]
    within += [ended("late", moment("00:01", 22), ended_at=moment("23:59"))]
    after = [called("after", moment("00:00", 22))]
    file = lines(*before, *within, *after, called(None, moment("05:00"), "absent"))
    found = figures(file, "--since", "2026-11-21", "--until", "2026-11-22")
    assert (found["logouts"]["told_by_both"], found["logouts"]["told_by_webhook"], found["logouts"]["logouts"]) == (
        1,
        1,
        2,
    )
    assert found["calls"]["recorded"] == 2
    assert found["input"]["events"] == 7


@pytest.mark.parametrize("bounds", [[], ["--since", "2026-11-18"]])
def test_what_is_grouped_in_parts_has_the_same_figures(
    planned: Path, figures: Report, monkeypatch: pytest.MonkeyPatch, bounds: list[str]
) -> None:
    whole = figures(planned, *bounds)
    monkeypatch.setattr(database, "GROUPED_AT_ONCE", 30_000)
    assert figures(planned, *bounds) == whole


def test_many_files_are_all_read(lines: Lines, figures: Report) -> None:
    files = [lines(called(f"s{number}"), name=f"{number}.jsonl") for number in range(20)]
    found = figures(*files)
    assert found["input"]["files"] == found["logouts"]["logouts"] == 20


@pytest.mark.parametrize(
    ("bounds", "logouts"),
    [
        (["--since", "2026-11-21T12:00:00Z"], 1),
        (["--until", "2026-11-21T12:00:00Z"], 0),
        (["--since", "2026-11-21T13:00", "--timezone", "Europe/Berlin"], 1),
        (["--since", "2026-11-21T13:01", "--timezone", "Europe/Berlin"], 0),
    ],
)
def test_bounds_know_time_zones(lines: Lines, figures: Report, bounds: list[str], logouts: int) -> None:
    assert figures(lines(called()), *bounds)["logouts"]["logouts"] == logouts


def test_a_day_with_a_clock_change_is_one_day(lines: Lines, figures: Report) -> None:
    zone = ZoneInfo("Europe/Berlin")
    texts = ["2026-10-25T00:00:00", "2026-10-25T23:59:59"]
    moments = [datetime.fromisoformat(text).replace(tzinfo=zone).astimezone(ZoneInfo("UTC")) for text in texts]
    events = [called(f"s{at:%d%H}", at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")) for at in moments]
    (row,) = figures(lines(*events), "--timezone", "Europe/Berlin")["logouts_by_day"]
    assert (row["day"], row["logouts"]) == ("2026-10-25", 2)

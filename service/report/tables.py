"""A report's figures in words and tables, for the terminal and for the page alike."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from service.report.database import Row
from service.report.figures import Figures

TOLD_BY = {"both": "call and webhook", "call": "call only", "webhook": "webhook only"}
"""Who told of a logout, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of one kind.

    Attributes:
        section: the part of the report that it belongs to.
        head: the columns' names; the first column names the row, the others are counts.
        bars: for each row the lengths to draw, in the colours of TOLD_BY; empty for no bars.
        note: a sentence below it.
    """

    section: str
    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    bars: Sequence[Sequence[int]] = ()
    note: str = ""


def count(number: int) -> str:
    """Write a number with separated thousands."""
    return f"{number:,}"


def share(part: float | None) -> str:
    """Write a share in percent, and one of nothing as a dash."""
    return "–" if part is None else f"{part:.1%}"


def duration(milliseconds: int | None) -> str:
    """Write a time in the unit that suits it, and an unknown one as a dash."""
    if milliseconds is None:
        return "–"
    for unit, of_it in ("h", 3_600_000), ("min", 60_000), ("s", 1000):
        if abs(milliseconds) >= of_it:
            return f"{milliseconds / of_it:.1f} {unit}"
    return f"{milliseconds} ms"


def period(figures: Figures) -> str:
    """Say which time a report is about."""
    first, last = (
        figures[bound] or figures["input"][found] for bound, found in (("since", "first"), ("until", "last"))
    )
    return f"{first[:16].replace('T', ' ')} to {last[:16].replace('T', ' ')}, days of {figures['timezone']}"


def tiles(figures: Figures) -> list[tuple[str, str]]:
    """Give the figures to begin with, each with what it counts."""
    coverage = figures["coverage"]
    return [
        (count(figures["logouts"]["logouts"]), "logouts"),
        (count(figures["logouts"]["people"]), "people"),
        (share(coverage["without_call_share"]), "without a call"),
        (share(coverage["without_webhook_share"]), "without a webhook"),
        (duration(figures["confirmation_percentiles"]["p50_milliseconds"]), "to Clerk's end, median"),
        (count(figures["used_after_logout"]["sessions"]), "used after logout"),
    ]


def tables(figures: Figures) -> Iterator[Table]:
    """Give every table, in the order of the report."""
    yield _logouts("When", "By day", "day", figures["logouts_by_day"])
    hours = [(f"{row['hour']:02d}:00", row["logouts"]) for row in figures["logouts_by_hour"]]
    yield _counted("When", "By hour of the day", ("hour", "logouts"), hours)

    logouts, coverage = figures["logouts"], figures["coverage"]
    told = [(text, count(logouts[f"told_by_{name}"])) for name, text in TOLD_BY.items()]
    bars = [[logouts[f"told_by_{name}"] if name == shown else 0 for name in TOLD_BY] for shown in TOLD_BY]
    yield Table(
        section="Coverage",
        title="Who told of the logouts",
        head=("told by", "logouts"),
        rows=told,
        bars=bars,
        note=f"Of the ends that Clerk told of, {share(coverage['calls_missing_share'])} had no call; "
        f"of the calls, {share(coverage['webhooks_missing_share'])} were never confirmed.",
    )
    yield _logouts("Coverage", "By origin of the call", "origin", figures["logouts_by_origin"], "none")
    yield _logouts("Coverage", "By Clerk's cause", "cause", figures["logouts_by_cause"], "no webhook")

    verdicts = [
        (": ".join(filter(None, (row["auth"], row["reason"]))), row["calls"]) for row in figures["calls_by_verdict"]
    ]
    unconfirmed, suppressed = count(logouts["expired_and_unconfirmed"]), count(figures["calls"]["suppressed"])
    yield _counted(
        "How sure", "Calls by verdict", ("verdict", "calls"), verdicts,
        note=f"{count(logouts['expired'])} logouts were called for with expired tokens only, of which Clerk never confirmed "
        f"{unconfirmed}. Flood control suppressed {suppressed} more calls.",
    )  # fmt: skip
    said = (f"{name[:3]} {duration(value)}" for name, value in figures["confirmation_percentiles"].items())
    confirmed = [(row["ended"], row["logouts"]) for row in figures["confirmation"]]
    yield _counted("How sure", "From the call to Clerk's end", ("ended", "logouts"), confirmed, note=", ".join(said))
    ages = [(row["token_age"], row["calls"]) for row in figures["expired_calls_by_token_age"]]
    yield _counted("How sure", "Age of expired tokens", ("age", "calls"), ages)

    people = ["logouts", "people", "actors"]
    yield _plain("Who", "Who logged out", "initiated_by", people, figures["logouts_by_initiator"], "not told")
    keys = ["sign_outs", "revoked_sessions", "failed_sessions"]
    yield _plain("Who", "Sign-outs everywhere", "scope", keys, figures["sign_outs_everywhere"])
    keys = ["sessions", "events", "issued_after_logout"]
    yield _plain("Who", "Tokens used after logout", "day", keys, figures["used_after_logout_by_day"])

    yield _plain("What was read", "Suppressed calls", "day", ["events", "calls"], figures["suppressed_calls_by_day"])
    keys = ["lines", "events", "repeated_lines"]
    read = figures["input"]
    files = "1 file" if read["files"] == 1 else f"{count(read['files'])} files"
    note = f"{count(read['lines'])} lines in {files}, {count(read['bad_lines'])} of them no events."
    yield _plain("What was read", "Events", "event", keys, read["by_event"], note=note)


def _logouts(section: str, title: str, key: str, rows: Sequence[Row], unknown: str = "") -> Table:
    told_by = [[row[f"told_by_{name}"] for name in TOLD_BY] for row in rows]
    shown = [
        [row[key] or unknown, *map(count, [row["logouts"], *each])] for row, each in zip(rows, told_by, strict=True)
    ]
    return Table(
        section=section, title=title, head=(key, "logouts", "both", "call", "webhook"), rows=shown, bars=told_by
    )


def _counted(section: str, title: str, head: Sequence[str], rows: Iterable[tuple[str, int]], note: str = "") -> Table:
    rows = list(rows)
    shown = [(name, count(number)) for name, number in rows]
    return Table(section=section, title=title, head=head, rows=shown, bars=[[number] for _, number in rows], note=note)


def _plain(
    section: str, title: str, key: str, keys: Sequence[str], rows: Sequence[Row], unknown: str = "", note: str = ""
) -> Table:
    head = [name.replace("_", " ") for name in (key, *keys)]
    shown = [[row[key] or unknown, *(count(row[name]) for name in keys)] for row in rows]
    return Table(section=section, title=title, head=head, rows=shown, note=note)

"""A report's figures in words and tables, for the terminal and for the page alike."""

from collections.abc import Sequence
from dataclasses import dataclass

from service.report.database import Figures, Row

TOLD_BY = {"both": "call and webhook", "call": "call only", "webhook": "webhook only"}
"""Who told of a logout, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of one kind.

    Attributes:
        head: the columns' names; the first column names the row, the others are counts.
        bars: for each row the lengths to draw, in the colours of TOLD_BY; empty for no bars.
        note: a sentence below it.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    bars: Sequence[Sequence[int]] = ()
    note: str = ""


def share(part: float | None) -> str:
    """Write a share in percent."""
    return "n/a" if part is None else f"{part:.1%}"


def duration(milliseconds: int | None) -> str:
    """Write a time in the unit that suits it."""
    if milliseconds is None:
        return "n/a"
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
        (f"{figures['logouts']['logouts']:,}", "logouts"),
        (f"{figures['logouts']['people']:,}", "people"),
        (share(coverage["without_call_share"]), "without a call"),
        (share(coverage["without_webhook_share"]), "without a webhook"),
        (duration(figures["confirmation_percentiles"]["p50_milliseconds"]), "to Clerk's end, median"),
        (f"{figures['used_after_logout']['sessions']:,}", "used after logout"),
    ]


def tables(figures: Figures) -> dict[str, list[Table]]:
    """Give the tables by the sections of the report, in its order."""
    logouts, coverage, read = figures["logouts"], figures["coverage"], figures["input"]
    told = ["logouts", *(f"told_by_{name}" for name in TOLD_BY)]
    told_by = [
        {"told_by": text, "logouts": logouts[f"told_by_{name}"]}
        | {f"told_by_{other}": logouts[f"told_by_{name}"] if other == name else 0 for other in TOLD_BY}
        for name, text in TOLD_BY.items()
    ]
    hours = [row | {"hour": f"{row['hour']:02d}:00"} for row in figures["logouts_by_hour"]]
    verdicts = [
        row | {"verdict": ": ".join(filter(None, (row["auth"], row["reason"])))} for row in figures["calls_by_verdict"]
    ]
    percentiles = (f"{name[:3]} {duration(value)}" for name, value in figures["confirmation_percentiles"].items())
    missing = (
        f"Of the ends that Clerk told of, {share(coverage['calls_missing_share'])} had no call; "
        f"of the calls, {share(coverage['webhooks_missing_share'])} were never confirmed."
    )
    expired = (
        f"{logouts['expired']:,} logouts rest on expired tokens only; of those, Clerk never confirmed "
        f"{logouts['expired_and_unconfirmed']:,}. "
        f"Flood control suppressed {figures['calls']['suppressed']:,} more calls."
    )
    lines = f"Files: {read['files']:,}. Lines: {read['lines']:,}, of which {read['bad_lines']:,} are no events."
    return {
        "When": [
            _table("By day", ["day", *told], figures["logouts_by_day"]),
            _table("By hour of the day", ["hour", "logouts"], hours),
        ],
        "Coverage": [
            _table("Who told of the logouts", ["told_by", "logouts"], told_by, missing),
            _table("By origin of the call", ["origin", *told], figures["logouts_by_origin"]),
            _table("By Clerk's cause", ["cause", *told], figures["logouts_by_cause"]),
        ],
        "How sure": [
            _table("Calls by verdict", ["verdict", "calls"], verdicts, expired),
            _table(
                "From the call to Clerk's end", ["ended", "logouts"], figures["confirmation"], ", ".join(percentiles)
            ),
            _table("Age of expired tokens", ["token_age", "calls"], figures["expired_calls_by_token_age"]),
        ],
        "Who": [
            _table("Who logged out", ["initiated_by", "logouts", "people", "actors"], figures["logouts_by_initiator"]),
            _table(
                "Sign-outs everywhere",
                ["scope", "sign_outs", "revoked_sessions", "failed_sessions"],
                figures["sign_outs_everywhere"],
            ),
            _table(
                "Tokens used after logout",
                ["day", "sessions", "events", "issued_after_logout"],
                figures["used_after_logout_by_day"],
            ),
        ],
        "What was read": [
            _table("Suppressed calls", ["day", "events", "calls"], figures["suppressed_calls_by_day"]),
            _table("Events", ["event", "lines", "events", "repeated_lines"], read["by_event"], lines),
        ],
    }


def _table(title: str, columns: Sequence[str], rows: Sequence[Row], note: str = "") -> Table:
    """Make a table of a column that names the row, and of counts; with bars for who told, or for a single count."""
    key, *counts = columns
    drawn = counts if len(counts) == 1 else []
    if rows and "told_by_both" in rows[0]:
        drawn = [f"told_by_{name}" for name in TOLD_BY]
    return Table(
        title=title,
        head=[name.removeprefix("told_by_").replace("_", " ") for name in columns],
        rows=[[_printable(row[key] or "not told"), *(f"{row[name]:,}" for name in counts)] for row in rows],
        bars=[[row[name] for name in drawn] for row in rows] if drawn else [],
        note=note,
    )


def _printable(text: str) -> str:
    """Keep what a line says from steering a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)

"""Event files as a database: DuckDB reads them once, in a temporary directory, and then answers questions.

The answers are the figures of a report, which ``--json`` prints and the pages show; docs/data.md says what each means.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import duckdb
import orjson

from service.report.inputs import UnusableInputError, is_gzip

MEMORY_LIMIT = "1400MB"
"""What DuckDB may hold before it writes to the temporary directory."""
FILES_AT_ONCE = 8
"""Files of one transaction: what DuckDB keeps of it in memory grows with what it has read."""
GROUPED_AT_ONCE = 10_000_000
"""Events that are grouped at once: DuckDB keeps something of each group in memory, whatever it writes to disk."""

SINGLE = {"logouts", "coverage", "confirmation_percentiles", "calls", "used_after_logout"}
"""Questions whose answer is one row."""

Row = dict[str, Any]
Figures = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Which logouts count.

    Attributes:
        since: the first moment, with a time zone; None for no bound.
        until: the first moment after it.
        timezone: the IANA name of the zone that days and hours are of.
    """

    since: datetime | None = None
    until: datetime | None = None
    timezone: str = "UTC"

    def where(self, column: str) -> str:
        """Give the condition that a time lies in the window."""
        bounds = [(">=", self.since), ("<", self.until)]
        return " AND ".join(["true", *(f"{column} {sign} '{bound.isoformat()}'" for sign, bound in bounds if bound)])


@contextmanager
def connect(directory: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open an empty database in a directory, bounded in memory; what it cannot do is an UnusableInputError."""
    settings: dict[str, Any] = {
        "temp_directory": str(directory / "spilled"),
        "memory_limit": MEMORY_LIMIT,
        "preserve_insertion_order": False,
    }
    try:
        with duckdb.connect(directory / "events.duckdb", config=settings) as connection:
            yield connection
    except duckdb.Error as error:
        raise UnusableInputError(str(error).partition("\n")[0]) from error


def figures(
    connection: duckdb.DuckDBPyConnection, paths: Sequence[Path], window: Window, say: Callable[[str], object]
) -> Figures:
    """Read the files and answer every question, in JSON's types; ``say`` is told what is being done.

    Raises:
        UnusableInputError: there is no event in them.
    """
    load(connection, paths, say)
    say("counting events")
    ((lines,),) = connection.execute("SELECT count(*) FROM lines").fetchall()
    by_event = count_input(connection)
    if not by_event:
        found = f"{lines} lines, none of them an event" if lines else "the input is empty"
        raise UnusableInputError(f"no events: {found}")
    say("joining sessions")
    narrow(connection, window)
    answers: Figures = {
        "report_version": 1,
        "since": window.since,
        "until": window.until,
        "timezone": window.timezone,
        "input": {
            "files": len(paths),
            "lines": lines,
            "bad_lines": lines - sum(row["lines"] for row in by_event),
            "events": sum(row["events"] for row in by_event),
            "repeated_lines": sum(row["repeated_lines"] for row in by_event),
            "first": min(row["first"] for row in by_event),
            "last": max(row["last"] for row in by_event),
            "by_event": by_event,
        },
    }
    for name, question in questions().items():
        if name != "input":
            say(name.replace("_", " "))
            rows = _rows(connection, question)
            answers[name] = rows[0] if name in SINGLE else rows
    plain: Figures = orjson.loads(orjson.dumps(answers))
    return plain


def load(connection: duckdb.DuckDBPyConnection, paths: Sequence[Path], say: Callable[[str], object]) -> None:
    """Read event files into the tables of ``sql/duckdb.sql``."""
    read = 0
    for compression in "none", "gzip":
        names = [_quoted(str(path)) for path in paths if is_gzip(path) == (compression == "gzip")]
        for start in range(0, len(names), FILES_AT_ONCE):
            read += len(names[start : start + FILES_AT_ONCE])
            say(f"reading files up to {read} of {len(paths)}")
            connection.execute(f"SET VARIABLE files = [{', '.join(names[start : start + FILES_AT_ONCE])}]")
            connection.execute(f"SET VARIABLE compression = '{compression}'")
            connection.execute(sql("duckdb"))


def count_input(connection: duckdb.DuckDBPyConnection) -> list[Row]:
    """Answer ``input``, the one question about all that was read."""
    connection.execute("ALTER VIEW events RENAME TO all_events")
    _collect(connection, "counted", questions()["input"], by="event_id")
    sums = "sum(lines) AS lines, sum(events) AS events, sum(repeated_lines) AS repeated_lines"
    ends = "min(first) AS first, max(last) AS last"
    return _rows(connection, f"FROM counted SELECT event, {sums}, {ends} GROUP BY event ORDER BY event")


def narrow(connection: duckdb.DuckDBPyConnection, window: Window) -> None:
    """Make ``sessions``, and leave in it and in ``events`` what lies in a window. ``count_input`` comes before.

    Sessions are joined before: of one that was called for in the window and had ended before it, all is before it. Only
    those are that have a moment in the window.
    """
    connection.execute(f"SET TimeZone = {_quoted(window.timezone)}")
    condition = "true"
    if window.since or window.until:
        touched = f"(({window.where('timestamp')}) OR ({window.where('ended_at')}))"
        _collect(connection, "touched", "FROM events SELECT DISTINCT session_id", by="session_id", condition=touched)
        condition = "session_id IN (FROM touched)"
    connection.execute(sql("sessions"))
    within = "FROM sessions WHERE " + window.where("logged_out_at")
    _collect(connection, "logouts", within, by="session_id", condition=condition)
    connection.execute("DROP VIEW sessions; ALTER TABLE logouts RENAME TO sessions")
    connection.execute("CREATE OR REPLACE VIEW events AS FROM all_events WHERE " + window.where("timestamp"))


def sql(name: str) -> str:
    """Give a text of ``sql/``."""
    return (files(__package__) / "sql" / f"{name}.sql").read_text("utf-8")


@cache
def questions() -> dict[str, str]:
    """Give every question by its name."""
    parts = re.split(r"^-- (\w+)\n", sql("questions"), flags=re.MULTILINE)[1:]
    return {name: text.strip() for name, text in zip(parts[::2], parts[1::2], strict=True)}


def _collect(
    connection: duckdb.DuckDBPyConnection, table: str, query: str, *, by: str, condition: str = "true"
) -> None:
    """Make a table of what a query says of ``events``, part by part; rows with the same ``by`` are in one part."""
    ((events,),) = connection.execute(f"FROM all_events SELECT count(*) WHERE {condition}").fetchall()
    parts = 1 + events // GROUPED_AT_ONCE
    for part in range(parts):
        which = f"hash({by}) % {parts} = {part} AND {condition}"
        connection.execute(f"CREATE OR REPLACE VIEW events AS FROM all_events WHERE {which}")
        connection.execute(f"INSERT INTO {table} {query}" if part else f"CREATE TABLE {table} AS {query}")


def _rows(connection: duckdb.DuckDBPyConnection, query: str) -> list[Row]:
    """Answer a question; of a day its date."""
    answer = connection.execute(query)
    names = [column[0] for column in answer.description or ()]
    rows = [dict(zip(names, row, strict=True)) for row in answer.fetchall()]
    return [row | {"day": row["day"].date()} if "day" in row else row for row in rows]


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"

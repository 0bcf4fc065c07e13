"""The figures of a report: what ``--json`` prints, and what the pages show. docs/data.md says what each means."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import orjson

from service.report.database import Window, ask, count_input, load, narrow, questions
from service.report.inputs import UnusableInputError

SINGLE = {"logouts", "coverage", "confirmation_percentiles", "calls", "used_after_logout"}
"""Questions whose answer is one row."""

Figures = dict[str, Any]


def figures(connection: duckdb.DuckDBPyConnection, paths: Sequence[Path], window: Window) -> Figures:
    """Read the files and answer every question, in JSON's types.

    Raises:
        UnusableInputError: there is no event in them.
    """
    load(connection, paths)
    lines = connection.execute("SELECT count(*) FROM lines").fetchall()[0][0]
    by_event = count_input(connection)
    if not by_event:
        found = f"{lines} lines, none of them an event" if lines else "the input is empty"
        raise UnusableInputError(f"no events: {found}")
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
    for question in questions():
        if question != "input":
            rows = ask(connection, question)
            answers[question] = rows[0] if question in SINGLE else rows
    plain: Figures = orjson.loads(orjson.dumps(answers))
    return plain

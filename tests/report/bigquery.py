"""The SQL in BigQuery's words; ``python -m tests.report.bigquery`` writes it into bigquery.sql."""

import re
from collections.abc import Callable
from pathlib import Path

from service.report.database import sql

FILE = Path("service/report/sql/bigquery.sql")
_REST = "-- From here on made from sessions.sql and questions.sql."
_WORDS: dict[str, str | Callable[[re.Match[str]], str]] = {
    r"CREATE VIEW sessions": "CREATE OR REPLACE VIEW clerk_logout.sessions",
    r"\bFROM events AS e\b": "FROM clerk_logout.events AS e",
    r"\bFROM (events|sessions)\b": r"FROM clerk_logout.\1",
    r"count\(\*\) FILTER \(WHERE (.*?)\)(?=[\s,])": r"countif(\1)",
    r"count\(DISTINCT (\w+)\) FILTER \(WHERE (\w+)\)": r"count(DISTINCT if(\2, \1, NULL))",
    r"min\((\w+)\) FILTER \(WHERE (.*?)\)(?=[\s,])": r"min(if(\2, \1, NULL))",
    r"date_trunc\('day', (\w+)\)": r"timestamp_trunc(\1, DAY)",
    r"date_diff\('(\w+)', (\w+), (\w+)\)": lambda found: f"timestamp_diff({found[3]}, {found[2]}, {found[1].upper()})",
    r"min_by\((e\.\w+), \(?(e\.\w+(?:, e\.\w+)?)\)*": r"array_agg(\1 IGNORE NULLS ORDER BY \2 LIMIT 1)[SAFE_OFFSET(0)]",
    r"Each runs unchanged in DuckDB and ClickHouse, over": "Over",
}


def tables() -> str:
    """What stands in the file by hand."""
    return FILE.read_text("utf-8").split(_REST)[0]


def translated() -> str:
    text = f"{sql('sessions')}\n{sql('questions')}"
    for pattern, words in _WORDS.items():
        text = re.sub(pattern, words, text)
    return f"{_REST}\n\n{text}"


if __name__ == "__main__":
    FILE.write_text(tables() + translated(), "utf-8")

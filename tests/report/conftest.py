"""Files made from a plan, and the two engines over them."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from service.cli import main
from service.report.database import connect, load, sql
from tests.pipeline.warehouse import Warehouse
from tests.report.plan import Plan, make_plan

Row = list[Any]
Report = Callable[..., Any]


@pytest.fixture(autouse=True)
def every_emitted_line_holds_to_its_schema() -> None:
    """The files of these tests hold bad lines on purpose."""


@pytest.fixture(scope="session")
def plan() -> Plan:
    return make_plan(20261121, 100_000)


@pytest.fixture(scope="session")
def planned(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plan's lines in a file."""
    path = tmp_path_factory.mktemp("plan") / "events.jsonl"
    path.write_text(plan.text(), encoding="utf-8")
    return path


@pytest.fixture
def run() -> Callable[..., Result]:
    """Run ``clerk-logout report``."""
    return lambda *arguments, stdin=None: CliRunner().invoke(main, ["report", *map(str, arguments)], input=stdin)


@pytest.fixture
def figures(run: Callable[..., Result]) -> Report:
    """Run ``clerk-logout report --json``, and give its figures."""

    def report(*arguments: object) -> Any:
        result = run("--json", *arguments)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return report


@pytest.fixture
def lines(tmp_path: Path) -> Callable[..., Path]:
    """Write a file of lines: events as keywords' dicts, anything else as it is."""

    def write(*lines: dict[str, Any] | str, name: str = "events.jsonl") -> Path:
        path = tmp_path / name
        texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
        path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
        return path

    return write


def duckdb_answers(path: Path, directory: Path, timezone: str, asked: Mapping[str, str]) -> dict[str, list[Row]]:
    with connect(directory) as connection:
        load(connection, [path], str)
        connection.execute(f"SET TimeZone = '{timezone}'")
        connection.execute(sql("sessions"))
        return {name: _steady(connection.execute(text).fetchall()) for name, text in asked.items()}


# As docs/data.md says; the lines themselves are read by the pipeline's own tables.
def clickhouse_answers(path: Path, directory: Path, timezone: str, asked: Mapping[str, str]) -> dict[str, list[Row]]:
    with Warehouse(directory, timezone) as warehouse:
        warehouse.insert(path.read_bytes().splitlines())
        warehouse.run(sql("sessions"))
        return {
            name: _steady([*row.values()] for row in warehouse.rows(text.rstrip(";"))) for name, text in asked.items()
        }


def _steady(rows: Any) -> list[Row]:
    """Answers in one form: a time as its text without an offset, as ClickHouse gives it in the session's zone."""
    return [
        [value.strftime("%Y-%m-%d %H:%M:%S.%f") if hasattr(value, "strftime") else _time(value) for value in row]
        for row in rows
    ]


def _time(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?", value):
        return value if "." in value else f"{value}.000000"
    return value

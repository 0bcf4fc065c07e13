"""Raw lines become typed rows, each event one, and what is no event is kept beside them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from service.events.schemas import schemas
from tests.events.test_schemas import EVENT_ID, EVENTS, EVERYTHING, TIME, VERIFIED, emitted, line_of, made
from tests.pipeline.warehouse import Warehouse

LINE = line_of(made("user_logout", VERIFIED)).rstrip()


@pytest.fixture
def warehouse(tmp_path: Path) -> Iterator[Warehouse]:
    with Warehouse(tmp_path / "warehouse") as warehouse:
        yield warehouse


def as_in_a_line(value: Any) -> Any:
    """A value of a row; ClickHouse writes times in another form."""
    return re.sub(r"^(\d{4}-\d\d-\d\d) ([\d:.]+)$", r"\1T\2Z", value) if isinstance(value, str) else value


def test_every_key_of_every_event_has_a_column(warehouse: Warehouse) -> None:
    keys = {key for schema in schemas().values() for key in schema["properties"]}
    assert {row["name"] for row in warehouse.rows("DESCRIBE events")} >= keys | {"line"}


@pytest.mark.parametrize("name", EVENTS)
def test_a_row_says_what_the_line_says(warehouse: Warehouse, name: str) -> None:
    warehouse.insert([line_of(made(name, EVERYTHING)).rstrip()])
    (row,) = warehouse.rows("SELECT * EXCEPT line FROM events")
    said = {key: as_in_a_line(value) for key, value in row.items() if value is not None}
    assert said == {key: value for key, value in emitted(name, EVERYTHING).items() if value is not None}


def test_a_line_that_comes_again_is_one_row(warehouse: Warehouse) -> None:
    warehouse.insert([LINE, LINE])
    warehouse.insert([LINE])
    assert warehouse.rows("SELECT event_id FROM events FINAL") == [{"event_id": EVENT_ID}]


@pytest.mark.parametrize("later_first", [False, True], ids=["in order", "the later one first"])
def test_of_a_webhook_that_comes_again_the_first_copy_stays(warehouse: Warehouse, *, later_first: bool) -> None:
    line = line_of(made("session_ended", VERIFIED)).rstrip()
    copies = [line, line.replace(TIME.encode(), b"2027-01-01T00:00:00.000000Z", 1)]
    for copy in reversed(copies) if later_first else copies:
        warehouse.insert([copy])
    assert [row["line"].encode() for row in warehouse.rows("SELECT line FROM events FINAL")] == [line]


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(LINE[:60] + LINE, id="torn and continued"),
        pytest.param(LINE.replace(EVENT_ID.encode(), b""), id="no event_id"),
        pytest.param("läuft".encode(), id="a message of somebody else"),
    ],
)
def test_what_is_no_event_is_kept_apart_and_harms_no_neighbour(warehouse: Warehouse, bad: bytes) -> None:
    other = LINE.replace(EVENT_ID.encode(), b"01990000-0000-7000-8000-000000000001")
    warehouse.insert([LINE, b"", bad, other])
    assert warehouse.one("SELECT count() FROM events") == 2
    assert [row["line"].encode() for row in warehouse.rows("SELECT line FROM bad")] == [bad]


def test_a_key_of_a_later_version_can_be_had_from_old_rows(warehouse: Warehouse) -> None:
    warehouse.insert([orjson.dumps(orjson.loads(LINE) | {"later": "x"})])
    warehouse.run("ALTER TABLE events ADD COLUMN later Nullable(String) DEFAULT JSONExtract(line, 'later', 'String')")
    assert warehouse.one("SELECT later FROM events") == "x"


def test_the_kafka_engines_file_can_be_parsed(warehouse: Warehouse) -> None:
    """Its table is made by a server only."""
    text = Path("deploy/pipeline/clickhouse/kafka.sql").read_text("utf-8")
    statements = [statement for statement in text.split(";\n") if statement.strip()]
    assert len(statements) == 2
    for statement in statements:
        warehouse.run(f"EXPLAIN AST {statement}")

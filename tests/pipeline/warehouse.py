"""ClickHouse without a server (chDB), with the tables of ``deploy/pipeline/clickhouse``."""

import re
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Self

import orjson
from chdb.session import Session

DDL = Path("deploy/pipeline/clickhouse/events.sql")


def statements(text: str) -> list[str]:
    """The statements of a text of SQL; ClickHouse takes them one by one."""
    return [statement for part in re.sub(r"--.*", "", text).split(";") if (statement := part.strip())]


class Warehouse:
    """A directory of tables; created when missing.

    Args:
        directory: chDB's own, open in one process at a time.
        timezone: what days and hours are of.
    """

    def __init__(self, directory: str | Path, timezone: str = "UTC") -> None:
        self._session: Any = Session(str(directory))  # type: ignore[no-untyped-call]
        (settings,) = re.findall(r"SET join_use_nulls.*;", DDL.read_text("utf-8"))
        self.run(settings.replace("UTC", timezone))
        for statement in statements(DDL.read_text("utf-8")):
            self.run(statement)

    def run(self, statement: str) -> None:
        """Run a statement that has no rows to give."""
        self._session.query(statement)

    def insert(self, lines: list[bytes]) -> None:
        """Insert raw lines, without their newlines."""
        with NamedTemporaryFile() as file:
            file.write(b"\n".join(lines))
            file.flush()
            self.run(f"INSERT INTO lines SELECT * FROM file('{file.name}', LineAsString)")  # noqa: S608 - a name of our own

    def rows(self, query: str) -> list[dict[str, Any]]:
        """Ask."""
        answer = self._session.query(query, "JSONEachRow")
        return [orjson.loads(row) for row in answer.bytes().splitlines()]

    def one(self, query: str) -> Any:
        """Ask for one value."""
        ((value,),) = (row.values() for row in self.rows(query))
        return value

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

"""The SQL: one text for the report, for the pipeline, and for the documentation."""

import re
from pathlib import Path

import duckdb
import pytest

from service.report.database import SINGLE, questions, sql
from tests.report import bigquery
from tests.report.conftest import clickhouse_answers, duckdb_answers

DOC = Path("docs/data.md").read_text("utf-8")


def section(heading: str) -> str:
    return re.split(r"^## ", DOC.split(f"\n## {heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def test_the_page_shows_each_question_as_it_is_asked() -> None:
    shown = re.findall(r"^```sql\n-- (\w+)\n(.*?)\n```$", section("The questions"), re.MULTILINE | re.DOTALL)
    assert dict(shown) == questions()
    assert len(shown) == len(questions()) >= 10


def test_the_page_lists_each_question_as_a_key_of_json() -> None:
    rows = [line for line in section("The figures, as JSON").splitlines() if line.startswith("|")]
    (single,) = [re.findall(r"`(\w+)`", row) for row in rows if row.endswith("as an object |")]
    (many,) = [re.findall(r"`(\w+)`", row) for row in rows if row.endswith("as a list of objects |")]
    assert set(single) == SINGLE
    assert set(many) == set(questions()) - SINGLE - {"input"}


def test_the_page_lists_the_columns_of_sessions(planned: Path, tmp_path: Path) -> None:
    rows = re.findall(r"^\| (`.*?`) \|", section("Tables and engines"), re.MULTILINE)
    listed = re.findall(r"`(\w+)`", " ".join(rows))
    connection = duckdb.connect(str(tmp_path / "my.duckdb"))
    connection.execute(f"SET VARIABLE files = ['{planned}']; SET VARIABLE compression = 'none'")
    connection.execute(sql("duckdb") + sql("sessions"))
    columns = connection.execute("DESCRIBE sessions").fetchall()
    assert sorted(listed) == sorted(name for name, *_ in columns)


def test_the_page_shows_how_to_open_files_in_duckdb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (program,) = re.findall(r"^```python\n(.*?)^```$", DOC, re.MULTILINE | re.DOTALL)
    exec(program.replace("my.duckdb", str(tmp_path / "my.duckdb")))  # noqa: S102 - the documents' words
    assert "850" in capsys.readouterr().out


def test_yesterday_is_asked_in_both_engines_words(planned: Path, tmp_path: Path) -> None:
    (question,) = re.findall(r"^```sql\n(SELECT .*?)^```$", section("Definitions"), re.MULTILINE | re.DOTALL)
    asked = {"yesterday": question.rstrip(";\n")}
    answers = duckdb_answers(planned, tmp_path, "UTC", asked)
    assert clickhouse_answers(planned, tmp_path / "clickhouse", "UTC", asked) == answers
    assert len(answers["yesterday"]) == 1


def test_the_pipelines_sql_is_the_reports() -> None:
    assert Path("deploy/pipeline/sql").resolve() == Path("service/report/sql").resolve()


def test_bigquerys_text_is_made_from_ours() -> None:
    assert bigquery.FILE.read_text("utf-8") == bigquery.tables() + bigquery.translated()


def test_bigquerys_text_parses() -> None:
    sqlglot = pytest.importorskip("sqlglot")
    parsed = sqlglot.parse(bigquery.FILE.read_text("utf-8"), read="bigquery")
    assert len([statement for statement in parsed if statement]) == 3 + len(questions())

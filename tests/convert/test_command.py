"""``convert``: lines in, lines out, and a count of what was left out."""

import json
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result

from service.cli import main
from service.convert.command import STANDARDS
from tests.convert.examples import EXAMPLES, golden

LINES = [orjson.dumps(event) for event in EXAMPLES.values()]


def convert(to: str, lines: list[bytes]) -> Result:
    return CliRunner().invoke(main, ["convert", "--to", to], input=b"\n".join(lines) + b"\n")


@pytest.mark.parametrize("to", STANDARDS)
def test_each_event_becomes_one_line(to: str) -> None:
    result = convert(to, LINES)
    assert result.exit_code == 0
    expected = [event for event in golden(to).values() if event is not None]
    assert [json.loads(line) for line in result.stdout.splitlines()] == expected


def test_what_is_skipped_is_counted() -> None:
    result = convert("ocsf", LINES)
    assert result.stderr.splitlines() == [
        "clerk-logout: 10 converted",
        "clerk-logout: 2 skipped: user_logout",
        "clerk-logout: 1 skipped: user_logout_suppressed",
    ]


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(LINES[0][:-1], id="torn at the end"),
        pytest.param(b"null", id="null"),
        pytest.param(b"\xff", id="no UTF-8"),
        pytest.param(orjson.dumps(EXAMPLES["user_logout"] | {"timestamp": "yesterday"}), id="no time in timestamp"),
        pytest.param(orjson.dumps(EXAMPLES["user_logout"] | {"timestamp": "2026-11-21T09:44:18Z"}), id="another form"),
        pytest.param(orjson.dumps(EXAMPLES["user_logout"] | {"event_id": ""}), id="no event_id"),
    ],
)
def test_what_is_no_event_is_counted(line: bytes) -> None:
    result = convert("ecs", [LINES[0], line, LINES[0]])
    assert len(result.stdout.splitlines()) == 2
    assert result.stderr == "clerk-logout: 2 converted\nclerk-logout: 1 skipped: no event\n"


@pytest.mark.parametrize("ended_at", [None, 5, "yesterday", "2026-13-41T00:00:00.000000Z"])
@pytest.mark.parametrize("to", STANDARDS)
def test_an_end_without_a_readable_time_has_the_lines(to: str, ended_at: object) -> None:
    result = convert(to, [orjson.dumps(EXAMPLES["session_ended"] | {"ended_at": ended_at})])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == golden(to)["session_ended"], "there both times are the same"


@pytest.mark.parametrize(("name", "counted"), [("later", "later"), (None, "no event"), ([], "no event")])
def test_an_event_of_another_name_is_skipped_by_it(name: object, counted: str) -> None:
    result = convert("otel", [orjson.dumps(EXAMPLES["user_logout"] | {"event": name})])
    assert (result.stdout, result.exit_code) == ("", 0)
    assert result.stderr == f"clerk-logout: 0 converted\nclerk-logout: 1 skipped: {counted}\n"


def test_an_empty_line_is_nothing() -> None:
    assert convert("ecs", [b"", LINES[0], b"  "]).stderr == "clerk-logout: 1 converted\n"


def test_it_reads_a_file(tmp_path: Path) -> None:
    file = tmp_path / "events"
    file.write_bytes(LINES[0])
    result = CliRunner().invoke(main, ["convert", "--to", "ecs", str(file)])
    assert json.loads(result.stdout) == golden("ecs")[next(iter(EXAMPLES))]


@pytest.mark.parametrize("arguments", [["--to", "cef", "-"], ["-"], ["--to", "ecs", "not-there"]])
def test_what_cannot_be_done_is_said(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, ["convert", *arguments])
    assert result.exit_code == 2
    assert "Error: " in result.stderr

"""``clerk-logout report``, as a person uses it."""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from service.report.database import questions
from tests.report.conftest import Report, clickhouse_answers, duckdb_answers
from tests.report.plan import BAD_LINES
from tests.report.test_figures import Lines, called
from tests.support.processes import TIMEOUT

Run = Callable[..., Result]

GOOD = json.dumps(called())


@pytest.fixture
def event(tmp_path: Path) -> Path:
    path = tmp_path / "one.jsonl"
    path.write_text(f"{GOOD}\n", encoding="utf-8")
    return path


def test_gzip_is_known_by_its_content(tmp_path: Path, figures: Report) -> None:
    plain, packed = tmp_path / "plain.gz", tmp_path / "packed.jsonl.1"
    plain.write_text(json.dumps(called("plain")) + "\n", encoding="utf-8")
    # Two members, as logrotate or `cat` make them, and no newline at the end.
    packed.write_bytes(gzip.compress(json.dumps(called("a")).encode() + b"\n") + gzip.compress(GOOD.encode()))
    assert figures(plain, packed)["logouts"]["logouts"] == 3


def test_quoted_globs_are_expanded_and_no_file_is_read_twice(tmp_path: Path, event: Path, figures: Report) -> None:
    (tmp_path / "it's [1] two.jsonl").write_text(json.dumps(called("two")) + "\n", encoding="utf-8")
    found = figures(tmp_path / "*.jsonl", event, tmp_path / "it's [1] two.jsonl")
    assert (found["input"]["files"], found["logouts"]["logouts"], found["input"]["repeated_lines"]) == (2, 2, 0)


def test_pipes_and_standard_input_are_read(event: Path) -> None:
    command = f"gzip -c {event} | {sys.executable} -m service report --json - <(cat {event}) -"
    done = subprocess.run(["bash", "-c", command], capture_output=True, timeout=TIMEOUT, check=True)
    found = json.loads(done.stdout)
    assert (found["input"]["files"], found["input"]["repeated_lines"], found["logouts"]["logouts"]) == (2, 1, 1)


def test_what_cannot_be_read_is_one_clear_line(tmp_path: Path, event: Path, run: Run) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "bad").write_text("torn\n", encoding="utf-8")
    (tmp_path / "cut").write_bytes(gzip.compress(os.urandom(1_000))[:-20])
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "long").write_bytes(b'{"event_id":"' + b"x" * (40 << 20) + b'"}\n')
    expected = {
        "missing": "missing: no such file",
        "loop": "loop: too many levels of symbolic links",
        ".": "is a directory",
        "empty": "no events: the input is empty",
        "bad": "no events: 1 lines, none of them an event",
        "cut": "GZIP",
        "long": "maximum_object_size",
    }
    for name, message in expected.items():
        result = run(*([event] if name in {"cut", "long", "missing"} else []), tmp_path / name)
        assert result.exit_code == 2, name
        assert result.stdout == ""
        assert result.stderr.startswith("clerk-logout: "), name
        assert message.lower() in result.stderr.lower(), name
        assert len(result.stderr.splitlines()) == 1, name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--since", "yesterday"], "--since: no date or time: 'yesterday'"),
        (["--since", "2026-11-21", "--until", "2026-11-21"], "--until: not after --since"),
        (["--timezone", "Mars/Olympus"], "--timezone: no such time zone: 'Mars/Olympus'"),
        (["--html", "/nowhere/report.html"], "/nowhere/report.html: No such file or directory"),
    ],
)
def test_a_wrong_option_is_one_clear_line(event: Path, run: Run, options: list[str], message: str) -> None:
    result = run(event, *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"clerk-logout: {message}")
    assert len(result.stderr.splitlines()) == 1


def test_a_missing_extra_is_named(event: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.startswith("service.report")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "duckdb", None)
    result = run(event)
    assert result.exit_code == 2
    assert result.stderr == "clerk-logout: duckdb is missing; the report needs: pip install 'clerk-logout[report]'\n"


ODD_LINES = (
    *BAD_LINES,
    GOOD[:40],
    f"{GOOD} x",
    GOOD.replace('"call ', '"\\ud800 '),
    json.dumps(called() | {"event_id": None}),
    json.dumps(called() | {"timestamp": 1763767800}),
    json.dumps(called() | {"timestamp": "2026-11-21T12:00:00Z"}),
    json.dumps(called() | {"timestamp": "2026-11-21T12:00:00.000000+"}),
    '{"event_id":"x","timestamp":"\x1b[31m"}',
)


def test_the_shown_bad_lines_are_those_that_are_counted(lines: Lines, run: Run, tmp_path: Path) -> None:
    path = lines(GOOD, "", *ODD_LINES, "   ", json.dumps(called("after")))
    (tmp_path / "packed").write_bytes(gzip.compress(path.read_bytes()))
    result = run("--json", "--bad-lines", path, tmp_path / "packed")
    shown = result.stderr.splitlines()
    assert json.loads(result.stdout)["input"]["bad_lines"] == len(shown) == 2 * len(ODD_LINES)
    assert json.loads(result.stdout)["logouts"]["logouts"] == 2
    assert shown[0] == f"events.jsonl:3: {BAD_LINES[0]}"
    assert all(line.isascii() and line.isprintable() for line in shown)


def test_both_engines_judge_lines_alike(lines: Lines, tmp_path: Path) -> None:
    between = [json.dumps(called(f"s{number}")) for number in range(len(ODD_LINES))]
    path = lines(*(line for pair in zip(ODD_LINES, between, strict=True) for line in pair))
    asked = {"events": "SELECT session_id FROM events ORDER BY session_id"}
    answers = duckdb_answers(path, tmp_path, "UTC", asked)
    assert clickhouse_answers(path, tmp_path / "clickhouse", "UTC", asked) == answers
    assert len(answers["events"]) == len(ODD_LINES)


def test_lines_of_loose_json_are_judged_as_the_page_says(lines: Lines, run: Run, tmp_path: Path) -> None:
    loose = ['"x":NaN', '"x":Infinity', '"x":1e999', f'"x":{"[" * 1_100}{"]" * 1_100}', '"x":1,']
    path = lines(*(f"{GOOD[:-1]},{value}}}" for value in loose))
    result = run("--json", "--bad-lines", path)
    assert json.loads(result.stdout)["input"]["bad_lines"] == 0
    assert len(result.stderr.splitlines()) == len(loose)
    asked = {"bad": "SELECT count(*) FROM bad"}
    assert clickhouse_answers(path, tmp_path / "clickhouse", "UTC", asked) == {"bad": [[len(loose)]]}


@pytest.mark.parametrize(
    "change",
    [
        {"count": 2**70},
        {"token_issued_at": "once", "ended_at": None, "unknown": {"deep": [1]}},
        {"event": "user_logged_in"},
        {"origin": "[red]<script>\x1b[31m'\"&"},
    ],
)
def test_odd_values_are_no_bad_lines(lines: Lines, run: Run, change: dict[str, object]) -> None:
    path = lines(called("other"), called() | change)
    result = run("--bad-lines", path)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "Files: 1. Lines: 2, of which 0 are no events." in result.stdout
    assert "\x1b" not in result.stdout


def test_the_terminal_page_shows_the_figures(run: Run) -> None:
    result = run("docs/sample.jsonl.gz")
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["call", "and", "webhook", "850"] in [row[:4] for row in rows]
    assert "10.5%" in result.stdout


def test_a_window_without_logouts_is_a_report_of_nothing(event: Path, run: Run, tmp_path: Path) -> None:
    result = run(event, "--since", "2030-01-01")
    assert result.exit_code == 0
    assert "none" in result.stdout
    assert run(event, "--since", "2030-01-01", "--html", tmp_path / "report.html").exit_code == 0
    figures = json.loads(run(event, "--since", "2030-01-01", "--json").stdout)
    assert set(figures["coverage"].values()) == {0, None}


def test_a_terminal_sees_what_it_is_at(event: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    result = run("--json", event)
    assert [*questions()][-1].replace("_", " ") in result.stderr
    assert json.loads(result.stdout)["report_version"] == 1

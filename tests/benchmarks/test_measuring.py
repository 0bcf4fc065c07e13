"""The parts that measure nothing themselves: figures, verdicts, requests, the report, and what a machine must have."""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.benchmarks import machine
from tests.benchmarks.contenders import NODE
from tests.benchmarks.load import USERS, Answers, user_id
from tests.benchmarks.measure import Figures, cost_ratio
from tests.benchmarks.report import Section, Target, document
from tests.benchmarks.verdicts import Verdicts, WrongError, check_run, check_suppressed, log_file
from tests.support.processes import ROOT

ANSWERS = Answers(2000, 1_000_000, p50=1, p99=1, p999=1, not_ok=0, unanswered=0)
LINES = {
    "service": (
        b'{"event":"user_logout","auth":"verified","reason":null,"user_id":"user_1","session_id":"sess_1"}\n'
        b'{"event":"user_logout","auth":"rejected","reason":"token-invalid","user_id":null,"session_id":null}\n'
        b'{"event":"user_logout_suppressed","auth":null,"reason":null,"user_id":null,"session_id":null}\n'
    ),
    "structlog": (
        b'{"auth": "verified", "user_id": "user_1", "session_id": "sess_1", "event": "user_logout"}\n'
        b'{"auth": "rejected", "reason": "Token has expired", "event": "user_logout"}\n'
    ),
    "node": (
        b'{"event":"user_logout","auth":"verified","user_id":"user_1","session_id":"sess_1"}\n'
        b'{"event":"user_logout","auth":"rejected","reason":"token-expired"}\n'
    ),
}


def verified(count: int = 2000, users: int = USERS) -> Verdicts:
    return Verdicts(Counter(verified=count), Counter(user_id(number % users) for number in range(count)))


def test_the_report_compares_runs_of_the_same_round() -> None:
    ours, theirs = ([Figures(1, cost, 1, 2, 3) for cost in costs] for costs in ((1, 20, 9), (2, 20, 10)))
    ratio = cost_ratio(ours, theirs)
    targets = [Target.ratio("one", ratio, 0.9), Target.ratio("other", ratio, 0.8)]
    text = document("How.", [Section("Costs", "Of all.", ["", "µs"], [["it", "1.0"]], targets)])
    assert "| one | 0.90 (0.50 to 1.00) | 0.90 | holds |\n" in text
    assert "| other | 0.90 (0.50 to 1.00) | 0.80 | **does not hold** |\n" in text
    assert "## Costs\n\nOf all.\n\n|  | µs |\n| --- | ---: |\n| it | 1.0 |\n" in text


@pytest.mark.parametrize("lines", LINES.values(), ids=list(LINES))
def test_each_contenders_new_lines_are_read(tmp_path: Path, lines: bytes) -> None:
    with (tmp_path / "log").open("ab", buffering=0) as file:
        take = log_file(tmp_path / "log")
        for _ in range(2):
            file.write(lines)
            assert take(0) == Verdicts(Counter(verified=1, rejected=1), Counter(user_1=1))
            assert take(0) == Verdicts(Counter(), Counter())


def test_a_run_may_have_verdicts_on_requests_that_wrk_cut_off() -> None:
    for verdicts in (verified(), verified(2064), Verdicts(Counter(verified=2000), None)):
        check_run("it", "verified", ANSWERS, verdicts, connections=64)


@pytest.mark.parametrize(
    ("answers", "verdicts", "message"),
    [
        (ANSWERS, verified(1999), "2000 responses, but 1999 verdicts"),
        (ANSWERS, verified(2065), "2000 responses, but 2065 verdicts"),
        (ANSWERS, verified(users=USERS - 1), "1 of 500 users were never verified"),
        (ANSWERS, Verdicts(Counter(verified=2000, rejected=1), verified().users), "1 verdicts were not verified"),
        (ANSWERS, Verdicts(Counter(verified=2000), Counter(user_stranger=2000)), "1 users who sent no token"),
        (replace(ANSWERS, not_ok=1), verified(), "1 answers were not 200"),
    ],
)
def test_a_run_that_is_wrong_says_why(answers: Answers, verdicts: Verdicts, message: str) -> None:
    with pytest.raises(WrongError, match=message):
        check_run("it", "verified", answers, verdicts, connections=64)


def test_calls_that_were_not_suppressed_are_noticed() -> None:
    check_suppressed("it", "absent", ANSWERS, Verdicts(Counter(absent=500), Counter()))
    for said in (Counter(absent=2000), Counter(absent=1, verified=1)):
        with pytest.raises(WrongError, match="were to be suppressed"):
            check_suppressed("it", "absent", ANSWERS, Verdicts(said, Counter()))


def test_the_command_ends_with_2_where_something_is_missing() -> None:
    command = [sys.executable, "-m", "tests.benchmarks"]
    done = subprocess.run(command, cwd=ROOT, env={"PATH": ""}, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert [line.split()[0] for line in done.stderr.splitlines()] == list(machine.PROGRAMS)
    assert done.stdout == ""


def test_the_lock_pins_what_package_json_names_and_no_registry() -> None:
    text = (NODE / "package-lock.json").read_text("utf-8")
    packages = json.loads(text)["packages"]
    wanted = json.loads((NODE / "package.json").read_text("utf-8"))["dependencies"]
    assert {name: packages[f"node_modules/{name}"]["version"] for name in wanted} == wanted
    assert "resolved" not in text
    assert all("integrity" in package for path, package in packages.items() if path)

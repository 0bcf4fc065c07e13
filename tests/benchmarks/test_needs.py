import json
import subprocess
import sys

import pytest

from tests.benchmarks import needs
from tests.benchmarks.contenders import NODE
from tests.support.processes import ROOT


def test_each_missing_program_is_a_line_with_its_package() -> None:
    with pytest.raises(needs.MissingError) as raised:
        needs.check(lambda program: None if program in {"wrk", "node"} else program)
    assert str(raised.value).splitlines() == [
        "wrk is missing; on Debian: apt-get install wrk",
        "node is missing; on Debian: apt-get install nodejs",
    ]


def test_the_command_ends_with_2_and_measures_nothing_where_something_is_missing() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks"],
        cwd=ROOT,
        env={"PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert [line.split()[0] for line in done.stderr.splitlines()] == list(needs.PACKAGES)
    assert done.stdout == ""


def test_the_lock_pins_what_package_json_names_and_no_registry() -> None:
    text = (NODE / "package-lock.json").read_text("utf-8")
    packages = json.loads(text)["packages"]
    wanted = json.loads((NODE / "package.json").read_text("utf-8"))["dependencies"]
    assert {name: packages[f"node_modules/{name}"]["version"] for name in wanted} == wanted
    assert "resolved" not in text
    assert all("integrity" in package for path, package in packages.items() if path)

"""What ``pyproject.toml`` and ``.env.example`` say about the code is true."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.settings import Settings

ROOT = Path(__file__).parents[1]

_assignment = re.compile(r"(?:# )?([A-Z][A-Z_]*)=.*").fullmatch


def example() -> Iterator[tuple[str, str]]:
    """The names in ``.env.example``, each with the line above it."""
    above = ""
    for line in (ROOT / ".env.example").read_text(encoding="utf-8").splitlines():
        if match := _assignment(line):
            yield match[1], above
        above = line


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-c", program, "--no-cache", "--config", str(root / "pyproject.toml")]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


def test_imports_run_one_way() -> None:
    report = lint_imports(ROOT)
    assert report.returncode == 0, report.stdout + report.stderr


@pytest.mark.parametrize(
    ("module", "imports"),
    [
        ("clerk/verdict.py", "service.events.types"),
        ("events/log.py", "service.events.request_facts"),
        ("settings.py", "service.app"),
        ("app.py", "service.sandbox.app"),
        ("sandbox/app.py", "service.settings"),
        ("endpoints/logout.py", "clerk_backend_api"),
    ],
)
def test_an_import_in_another_direction_is_noticed(tmp_path: Path, module: str, imports: str) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "service", tmp_path / "service")
    with (tmp_path / "service" / module).open("a", encoding="utf-8") as file:
        file.write(f"\nimport {imports}\n")
    report = lint_imports(tmp_path)
    assert report.returncode == 1, report.stdout + report.stderr
    assert imports in report.stdout


def test_the_example_lists_every_setting_in_its_order() -> None:
    assert [name for name, _ in example()] == [name.upper() for name in Settings.model_fields]


@pytest.mark.parametrize(("name", "above"), list(example()))
def test_every_setting_in_the_example_is_explained(name: str, above: str) -> None:
    assert above.startswith("# ")
    assert len(above) > len("# "), name

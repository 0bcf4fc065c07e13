"""Figures, and repetitions: ``make faults ARGS="--repeat 20"``."""

from dataclasses import dataclass
from typing import Protocol

import pytest

_FIGURES = pytest.StashKey[list["_Figure"]]()


class Figure(Protocol):
    """Shows what a test measured, and fails it when the bound is exceeded."""

    def __call__(self, name: str, value: float, unit: str = "", *, bound: float | None = None) -> None: ...


@dataclass(frozen=True, slots=True)
class _Figure:
    test: str
    name: str
    value: float
    unit: str
    bound: float | None

    def __str__(self) -> str:
        unit = self.unit and f" {self.unit}"
        bound = "" if self.bound is None else f" (bound {_number(self.bound)}{unit})"
        return f"{self.name}: {_number(self.value)}{unit}{bound}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 100 else f"{value:,.3g}"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--repeat", type=int, default=1, metavar="N", help="run each fault test N times in a row")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_FIGURES] = []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    times = metafunc.config.getoption("--repeat", default=1)
    if times > 1:
        metafunc.parametrize("repetition", range(1, times + 1), indirect=True)


@pytest.fixture(autouse=True)
def repetition(request: pytest.FixtureRequest) -> int:
    """Which run of this test it is, counted from 1."""
    number: int = getattr(request, "param", 1)
    return number


@pytest.fixture
def figure(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Figure:
    """``figure("p99", 12.3, "ms", bound=150)`` is shown at once, stands in the table at the end, and is asserted."""
    terminal = request.config.pluginmanager.get_plugin("terminalreporter")
    assert terminal is not None
    test = request.node.originalname

    def show(name: str, value: float, unit: str = "", *, bound: float | None = None) -> None:
        __tracebackhide__ = True
        one = _Figure(test, name, value, unit, bound)
        request.config.stash[_FIGURES].append(one)
        with capsys.disabled():
            terminal.ensure_newline()
            terminal.write_line(f"FIGURE {one}")
        assert bound is None or value <= bound, str(one)

    return show


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show every figure once; where a test ran several times, the highest, and the lowest after it."""
    runs: dict[str, dict[str, list[_Figure]]] = {}
    for one in config.stash[_FIGURES]:
        runs.setdefault(one.test, {}).setdefault(one.name, []).append(one)
    if runs:
        terminalreporter.section("figures")
    for test, figures in runs.items():
        terminalreporter.write_line(test)
        for several in figures.values():
            highest, lowest = max(several, key=lambda one: one.value), min(several, key=lambda one: one.value)
            runs_said = f"; {len(several)} runs, the lowest {_number(lowest.value)}" if len(several) > 1 else ""
            terminalreporter.write_line(f"  {highest}{runs_said}")

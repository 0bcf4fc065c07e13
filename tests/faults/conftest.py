"""Figures: what a fault test measured."""

import pytest


class Figure:
    """Shows what a test measured, and fails it when the bound is exceeded: ``figure("p99", 12.3, "ms", bound=150)``."""

    def __init__(self, terminal: pytest.TerminalReporter, capsys: pytest.CaptureFixture[str]) -> None:
        self._terminal, self._capsys = terminal, capsys

    def __call__(self, name: str, value: float, unit: str = "", *, bound: float | None = None) -> None:
        __tracebackhide__ = True
        shown = f"{name}: {_number(value)} {unit}".rstrip()
        if bound is not None:
            shown += f" (bound {_number(bound)})"
        with self._capsys.disabled():
            self._terminal.ensure_newline()
            self._terminal.write_line(f"FIGURE {shown}")
        assert bound is None or value <= bound, shown


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 100 else f"{value:,.3g}"


@pytest.fixture
def figure(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Figure:
    terminal: pytest.TerminalReporter = request.config.pluginmanager.getplugin("terminalreporter")
    return Figure(terminal, capsys)

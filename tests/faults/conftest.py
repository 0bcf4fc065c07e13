"""Figures: what a fault test measured."""

from typing import Protocol

import pytest


class Figure(Protocol):
    """Shows what a test measured, and fails it when the bound is exceeded."""

    def __call__(self, name: str, value: float, unit: str = "", *, bound: float | None = None) -> None: ...


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 100 else f"{value:,.3g}"


@pytest.fixture
def figure(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Figure:
    """``figure("p99", 12.3, "ms", bound=150)`` is shown, and asserted."""
    terminal = request.config.pluginmanager.get_plugin("terminalreporter")
    assert terminal is not None

    def show(name: str, value: float, unit: str = "", *, bound: float | None = None) -> None:
        __tracebackhide__ = True
        shown = f"{name}: {_number(value)} {unit}".rstrip()
        if bound is not None:
            shown += f" (bound {_number(bound)})"
        with capsys.disabled():
            terminal.ensure_newline()
            terminal.write_line(f"FIGURE {shown}")
        assert bound is None or value <= bound, shown

    return show

"""The report as a page for the terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.rule import Rule
from rich.table import Table as Grid
from rich.text import Text

from service.report.figures import Figures
from service.report.tables import TOLD_BY, Table, period, tables, tiles

_COLORS = ("blue", "yellow", "magenta")
_BAR = 16
"""Cells of the longest bar."""


def print_report(figures: Figures, console: Console) -> None:
    """Print the tables of a report's figures. Colours only where the terminal has them."""
    console.print(Rule(Text("Logouts", style="bold"), align="left", style="dim"))
    console.print(Text(period(figures), style="dim"))
    console.print()
    summary = Grid.grid(padding=(0, 3))
    summary.add_row(*(Text(value, style="bold") for value, _ in tiles(figures)))
    summary.add_row(*(Text(what, style="dim") for _, what in tiles(figures)))
    console.print(summary)
    for section, members in tables(figures).items():
        console.print()
        console.print(Rule(Text(section, style="bold"), align="left", style="dim"))
        for table in members:
            console.print()
            console.print(Text(table.title, style="bold"))
            console.print(_grid(table) if table.rows else Text("none", style="dim"))
            if table.note:
                console.print(Text(table.note, style="dim"))


def _grid(table: Table) -> Grid:
    grid = Grid(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for place, name in enumerate(table.head):
        grid.add_column(Text(name), justify="right" if place else "left", overflow="fold")
    if table.bars:
        grid.add_column(_legend() if len(table.head) > 2 else "")  # noqa: PLR2004 - a column for each who told
    longest = max(map(sum, table.bars), default=0) or 1
    for place, cells in enumerate(table.rows):
        bar = [_bar(table.bars[place], longest)] if table.bars else []
        grid.add_row(*(Text(cell) for cell in cells), *bar)
    return grid


def _legend() -> Text:
    return Text(" ").join(Text.assemble(("█", color), f" {name}") for name, color in zip(TOLD_BY, _COLORS, strict=True))


def _bar(lengths: Sequence[int], longest: int) -> Text:
    """Draw lengths beside each other; what is not nothing has at least an eighth of a cell."""
    parts = [(round(part / longest * _BAR), color) for part, color in zip(lengths, _COLORS, strict=False)]
    drawn = Text.assemble(*(("█" * cells, color) for cells, color in parts))
    return drawn if drawn or not any(lengths) else Text("▏", style=_COLORS[0])

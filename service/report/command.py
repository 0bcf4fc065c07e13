"""``clerk-logout report``: files in, one page out, on the terminal unless something else is asked for."""

import json
import sys
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from rich.console import Console
from rich.rule import Rule
from rich.table import Table as Grid
from rich.text import Text

from service.report.database import Figures, Window, connect, figures
from service.report.inputs import UnusableInputError, bad_lines, find_files
from service.report.page import write_page
from service.report.tables import TOLD_BY, Table, period, tables, tiles

_COLORS = ("blue", "yellow", "magenta")
_BAR = 16
"""Cells of the longest bar."""


def report(names: Sequence[str], window: Window, *, as_json: bool, html: Path | None, show_bad_lines: bool) -> None:
    """Read event files and show what is in them: as a page on the terminal, as JSON, or as a page of HTML.

    Raises:
        UnusableInputError: files cannot be read or written, or hold no event.
    """
    with tempfile.TemporaryDirectory(prefix="clerk-logout-") as directory:
        paths = find_files(names, Path(directory))
        if show_bad_lines:
            for line in bad_lines(paths):
                print(line, file=sys.stderr)  # noqa: T201 - printable ASCII, for whoever asked
        with connect(Path(directory)) as connection, Console(stderr=True).status("reading") as status:
            found = figures(connection, paths, window, status.update)
    if html is not None:
        try:
            write_page(found, html)
        except OSError as error:
            raise UnusableInputError(f"{html}: {error.strerror}") from error
    if as_json:
        print(json.dumps(found, indent=2))  # noqa: T201 - the output of a command
    elif html is None:
        _print(found, Console(markup=False, highlight=False))


def window_of(since: str | None, until: str | None, timezone: str) -> Window:
    """Understand a window; a time without an offset is one of the time zone, a date its first moment.

    Raises:
        UnusableInputError: that is no time, or no time zone.
    """
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UnusableInputError(f"--timezone: no such time zone: {timezone!r}") from error
    bounds = []
    for name, text in ("--since", since), ("--until", until):
        try:
            moment = None if text is None else datetime.fromisoformat(text)
        except ValueError as error:
            raise UnusableInputError(
                f"{name}: no date or time: {text!r} (write 2026-11-21 or 2026-11-21T06:00+01:00)"
            ) from error
        bounds.append(moment.replace(tzinfo=zone) if moment and moment.tzinfo is None else moment)
    if bounds[0] and bounds[1] and bounds[0] >= bounds[1]:
        raise UnusableInputError("--until: not after --since")
    return Window(since=bounds[0], until=bounds[1], timezone=timezone)


def _print(found: Figures, console: Console) -> None:
    """Print the tables of a report. Colours only where the terminal has them."""
    console.print(Rule(Text("Logouts", style="bold"), align="left", style="dim"))
    console.print(Text(period(found), style="dim"))
    console.print()
    summary = Grid.grid(padding=(0, 3))
    summary.add_row(*(Text(value, style="bold") for value, _ in tiles(found)))
    summary.add_row(*(Text(what, style="dim") for _, what in tiles(found)))
    console.print(summary)
    for section, members in tables(found).items():
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

"""``clerk-logout report``: files in, one page out."""

import json
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import duckdb
from rich.console import Console
from rich.progress import Progress

from service.report.database import Window, connect
from service.report.figures import figures
from service.report.inputs import UnusableInputError, bad_lines, find_files
from service.report.page import write_page
from service.report.terminal import print_report


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
        with connect(Path(directory)) as connection, _progress(connection):
            found = figures(connection, paths, window)
    if html is not None:
        try:
            write_page(found, html)
        except OSError as error:
            raise UnusableInputError(f"{html}: {error.strerror}") from error
    if as_json:
        print(json.dumps(found, indent=2))  # noqa: T201 - the output of a command
    elif html is None:
        print_report(found, Console(markup=False, highlight=False))


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


@contextmanager
def _progress(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Show on a terminal how far DuckDB has come with its present statement."""
    console = Console(stderr=True)
    done = threading.Event()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading")

        def watch() -> None:
            while not done.wait(0.2):
                bar.update(task, completed=max(0.0, connection.query_progress()))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()

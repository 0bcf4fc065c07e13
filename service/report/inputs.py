"""The event files that a report is about: plain or gzip, quoted globs, pipes."""

import gzip
import shutil
import sys
from collections.abc import Iterator, Sequence
from glob import glob
from pathlib import Path

from service.convert.command import read_event

_GZIP = b"\x1f\x8b"
_SHOWN = 160
"""Bytes of a bad line that are shown."""


class UnusableInputError(Exception):
    """What was asked for cannot be reported; the message is one line for the person who asked."""


def find_files(names: Sequence[str], directory: Path) -> list[Path]:
    """Give the files that the arguments name, each once: paths, quoted globs, pipes, and ``-`` for standard input.

    Args:
        names: the arguments.
        directory: where what comes through a pipe is kept, for it may be read twice.

    Raises:
        UnusableInputError: one of them is not there, or cannot be read.
    """
    found: list[Path] = []
    for name in dict.fromkeys(names):
        paths = [name] if name == "-" or Path(name).exists() else sorted(glob(name))  # noqa: PTH207 - absolute ones, too
        if not paths:
            raise UnusableInputError(f"{name}: no such file")
        for path in paths:
            try:
                found.append(_regular(path, directory / f"input-{len(found)}"))
            except OSError as error:
                raise UnusableInputError(f"{path}: {error.strerror}") from error
    return list(dict.fromkeys(found))


def is_gzip(path: Path) -> bool:
    """Say what a file is by its first bytes, not by its name: logrotate and pipes name as they please."""
    with path.open("rb") as file:
        return file.read(2) == _GZIP


def bad_lines(paths: Sequence[Path]) -> Iterator[str]:
    """Give each line that is no event: file, number and beginning, in printable ASCII."""
    for path in paths:
        with gzip.open(path) if is_gzip(path) else path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip() and read_event(line) is None:
                    yield f"{path.name}:{number}: {ascii(line.rstrip()[:_SHOWN])[2:-1]}"


def _regular(name: str, copy: Path) -> Path:
    path = Path(name)
    if path.is_file() or path.is_dir():
        path.open("rb").close()  # says what is wrong
        return path.resolve()
    with sys.stdin.buffer if name == "-" else path.open("rb") as source, copy.open("wb") as target:
        shutil.copyfileobj(source, target)
    return copy

"""Disks that are full, as far as this machine lets a test have one."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def small_disk(directory: Path) -> Iterator[Path]:
    """Mount a small tmpfs on a directory; where that is not allowed the test is skipped."""
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(directory)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root may mount a small disk")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def fill(directory: Path) -> Path:
    """Leave no byte free; give the file that takes the room."""
    ballast = directory / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue
    return ballast


def grow(directory: Path) -> None:
    """Give a small disk more room, as an operator does who clears one."""
    subprocess.run(["mount", "-o", "remount,size=64m", str(directory)], check=True)


def refuse(number: int) -> Callable[..., Any]:
    """A system call that fails."""

    def call(*_: object, **__: object) -> object:
        raise OSError(number, os.strerror(number))

    return call

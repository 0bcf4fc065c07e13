"""Disks that are full, as far as this machine lets a test have one."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def small_disk(directory: Path, options: str = "size=256k") -> Iterator[Path]:
    """Mount a small tmpfs on a directory; where that is not allowed the test is skipped."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
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


def grow(directory: Path, size: str = "64m") -> None:
    """Give a small disk more room, as an operator does who clears one."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(directory)], check=True)


def refuse(number: int) -> Callable[..., Any]:
    """A system call that fails."""

    def call(*_: object, **__: object) -> object:
        raise OSError(number, os.strerror(number))

    return call

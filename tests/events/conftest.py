"""Spools of this room: outside of ``tmp_path``, where every ``*.jsonl`` is held against the schemas."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.events.spool import Spool

OpenSpool = Callable[..., Spool]


@pytest.fixture
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the processes of a test have their spools."""
    return tmp_path_factory.mktemp("spool")


@pytest.fixture
def open_spool(directory: Path) -> Iterator[OpenSpool]:
    """Opens a spool as a process does at its start; the test need not close it."""
    spools: list[Spool] = []

    def open_(*, max_bytes: int = 1 << 30, fsync: bool = False) -> Spool:
        spools.append(Spool(str(directory), max_bytes, fsync=fsync))
        spools[-1].look_after()
        return spools[-1]

    yield open_
    for spool in spools:
        spool.close()


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What is made durable instead of being so, in its order."""
    paths: list[Path] = []

    def remember(descriptor: int) -> None:
        paths.append(Path(f"/proc/self/fd/{descriptor}").readlink())

    monkeypatch.setattr(os, "fdatasync", remember)
    monkeypatch.setattr(os, "fsync", remember)
    return paths

"""Writing to a disk so that it stays written."""

import os
from pathlib import Path


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of it.

    Raises:
        OSError: not all of it was written.
    """
    while data:
        data = data[os.write(descriptor, data) :]


def sync_directory(path: Path) -> None:
    """Make durable that a file was made in a directory: fsync(2) of a file does not promise that.

    Raises:
        OSError: the directory cannot be opened or synced.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

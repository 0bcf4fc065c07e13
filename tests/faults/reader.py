"""Whoever reads the service's standard output: a process that can be stopped as a pipeline stops."""

import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.lines import read_lines
from tests.support.processes import TIMEOUT, Server, serve


class PipeReader:
    """``cat`` from a pipe to the end of a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("ab") as file:
            self.process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=file)
        assert self.process.stdin is not None
        self.pipe = self.process.stdin

    def pause(self) -> None:
        """Have it take nothing from now on."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    @property
    def line_count(self) -> int:
        """How many line ends have been read so far."""
        return self._path.read_bytes().count(b"\n")

    def events(self) -> list[dict[str, Any]]:
        """Every event, once the service has ended; each is held against its schema."""
        self.resume()
        self.process.wait(TIMEOUT)  # it ends when nobody holds the pipe open
        return read_lines(self._path.read_bytes().splitlines(keepends=True))


@contextmanager
def serve_to_pipe(settings: Mapping[str, str] | None = None) -> Iterator[tuple[Server, PipeReader]]:
    """Start the service with its standard output led into a pipe, and read that."""
    with tempfile.NamedTemporaryFile() as file:
        reader = PipeReader(Path(file.name))
        try:
            with reader.pipe, serve(reader.pipe, settings) as server:
                reader.pipe.close()
                yield server, reader
        finally:
            reader.process.kill()
            reader.process.wait()

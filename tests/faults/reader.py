"""Whoever reads the service's standard output: a process that can be stopped as a pipeline stops."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.support.lines import read_lines
from tests.support.processes import TIMEOUT, Server, serve


class PipeReader:
    """Reads a pipe to its end. Between ``pause`` and ``resume`` it takes no byte."""

    def __init__(self, descriptor: int) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - events() closes it
        self._process = subprocess.Popen(["cat"], stdin=descriptor, stdout=self._file)
        os.close(descriptor)

    def pause(self) -> None:
        """Take nothing from now on."""
        self._process.send_signal(signal.SIGSTOP)
        os.waitpid(self._process.pid, os.WUNTRACED)  # it has stopped

    def resume(self) -> None:
        """Go on."""
        self._process.send_signal(signal.SIGCONT)

    @property
    def line_count(self) -> int:
        """How many line ends have been read so far."""
        return self._content().count(b"\n")

    def events(self) -> list[dict[str, Any]]:
        """Every event, once all writers have closed the pipe; each is held against its schema."""
        self.resume()
        assert self._process.wait(TIMEOUT) == 0
        with self._file:
            return read_lines(self._content().splitlines(keepends=True))

    def _content(self) -> bytes:
        descriptor = self._file.fileno()
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


@contextmanager
def serve_to_pipe(settings: Mapping[str, str] | None = None) -> Iterator[tuple[Server, PipeReader]]:
    """Start the service with its standard output led into a pipe, and read that.

    The reader's ``events`` are complete once the service has ended.
    """
    read_end, write_end = os.pipe()
    reader = PipeReader(read_end)
    with os.fdopen(write_end, "wb") as stdout, serve(stdout, settings) as server:
        stdout.close()
        try:
            yield server, reader
        finally:
            reader.resume()  # it ends with the service

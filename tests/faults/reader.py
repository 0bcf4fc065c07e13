"""Whoever reads the service's standard output: a thread that can be stopped as a pipeline stops."""

import os
import select
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.support.lines import read_lines
from tests.support.processes import TIMEOUT, Server, serve


class PipeReader:
    """Reads a pipe to its end. Between ``pause`` and ``resume`` it takes no byte, as a process under SIGSTOP."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._chunks: list[bytes] = []
        self._reading = threading.Event()
        self._reading.set()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="pipe reader", daemon=True)
        self._thread.start()

    def pause(self) -> None:
        """Take nothing from now on."""
        with self._lock:
            self._reading.clear()

    def resume(self) -> None:
        """Go on."""
        self._reading.set()

    @property
    def line_count(self) -> int:
        """How many line ends have been read so far."""
        return sum(chunk.count(b"\n") for chunk in self._chunks[:])

    def events(self) -> list[dict[str, Any]]:
        """Every event, once all writers have closed the pipe; each is held against its schema."""
        self.resume()
        self._thread.join(TIMEOUT)
        assert not self._thread.is_alive(), "somebody still holds the pipe open"
        return read_lines(b"".join(self._chunks).splitlines(keepends=True))

    def _run(self) -> None:
        with os.fdopen(self._descriptor, "rb", buffering=0) as pipe:
            while True:
                self._reading.wait()
                select.select([pipe], [], [])
                with self._lock:
                    if not self._reading.is_set():
                        continue
                    chunk = pipe.read(1 << 16)
                if not chunk:
                    return
                self._chunks.append(chunk)


@contextmanager
def serve_to_pipe(settings: Mapping[str, str] | None = None) -> Iterator[tuple[Server, PipeReader]]:
    """Start the service with its standard output led into a pipe, and read that.

    The reader's ``events`` are complete once the service has ended.
    """
    read_end, write_end = os.pipe()
    reader = PipeReader(read_end)
    with os.fdopen(write_end, "wb") as stdout, serve(stdout, settings) as server:
        stdout.close()
        yield server, reader

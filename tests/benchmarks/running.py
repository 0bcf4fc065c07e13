"""Contenders as processes: each is started once, listens on a port of 127.0.0.1, and none is left behind."""

import os
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.benchmarks.contenders import Contender
from tests.benchmarks.load import BARE, LOGOUT, Load, request
from tests.benchmarks.verdicts import Ledger, WrongError
from tests.support.processes import ROOT, TIMEOUT, free_port, listens, wait_until


@dataclass(frozen=True, slots=True)
class Running:
    """A contender that listens."""

    contender: Contender
    pid: int
    port: int
    ledger: Ledger

    @property
    def name(self) -> str:
        return self.contender.name


class Bench(ExitStack):
    """A directory for logs and requests, and the processes that were started in it; leaving it ends them."""

    def __init__(self) -> None:
        super().__init__()
        self._directory = Path(self.enter_context(tempfile.TemporaryDirectory(prefix="clerk-logout-bench-")))
        self._files = 0

    def load(self, tokens: Iterable[str], headers: Mapping[str, str] = BARE, *, line: str = LOGOUT) -> Load:
        """Write one request for each token into a file; give what wrk does with it over 64 connections."""
        path = self._new_file("requests")
        path.write_bytes(b"".join(request(token, headers, line=line) for token in tokens))
        return Load(path)

    def start(self, contender: Contender) -> Running:
        """Start a contender and wait until it listens; one that ends instead is wrong, with what it said."""
        port, log, said = free_port(), self._new_file("log"), self._new_file("said")
        log.touch()
        environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        environment |= {"PORT": str(port), "EVENT_LOG": "-" if contender.piped else str(log)}
        environment |= {"EVENT_SPOOL_DIR": str(self._new_file("spool"))} | dict(contender.settings)
        with said.open("wb") as stderr:
            stdout = self._reader(log) if contender.piped else stderr
            process = subprocess.Popen(contender.command(port), cwd=ROOT, env=environment, stdout=stdout, stderr=stderr)
            if contender.piped:
                stdout.close()  # the pipe's end is to come when the contender ends
        self.callback(_end, process)
        wait_until(lambda: listens(port) or process.poll() is not None, f"{contender.name} listens")
        if process.poll() is not None:
            raise WrongError(f"{contender.name} did not start:\n{said.read_text('utf-8', 'replace')}")
        return Running(contender, process.pid, port, contender.ledger(port, log))

    def _reader(self, log: Path) -> IO[bytes]:
        """Start the cheapest reader there is for a pipe; give the pipe's writing end."""
        with log.open("ab") as file:
            reader = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=file)
        self.callback(reader.wait, TIMEOUT)
        assert reader.stdin is not None
        return reader.stdin

    def _new_file(self, kind: str) -> Path:
        self._files += 1
        return self._directory / f"{self._files}.{kind}"


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

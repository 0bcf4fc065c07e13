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
from tests.faults.reader import PipeReader
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

    def load(self, tokens: Iterable[str], headers: Mapping[str, str] = BARE, *, line: str = LOGOUT) -> Load:
        """Write one request for each token into a file; give what wrk does with it over 64 connections."""
        path = Path(tempfile.mkdtemp(dir=self._directory)) / "requests"
        path.write_bytes(b"".join(request(token, headers, line=line) for token in tokens))
        return Load(path)

    def start(self, contender: Contender) -> Running:
        """Start a contender and wait until it listens; one that ends instead is wrong, with what it said."""
        port, directory = free_port(), Path(tempfile.mkdtemp(dir=self._directory))
        log, said = directory / "log", directory / "said"
        log.touch()
        environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        environment |= {"PORT": str(port), "EVENT_LOG": "-" if contender.piped else str(log)}
        environment |= {"EVENT_SPOOL_DIR": str(directory / "spool")} | dict(contender.settings)
        with said.open("wb") as stderr, ExitStack() as pipe:
            stdout: IO[bytes] = stderr
            if contender.piped:  # the cheapest reader there is; it ends when the contender does
                reader = PipeReader(log)
                self.callback(reader.process.wait, TIMEOUT)
                stdout = pipe.enter_context(reader.pipe)
            process = subprocess.Popen(contender.command(port), cwd=ROOT, env=environment, stdout=stdout, stderr=stderr)
        self.callback(process.wait, TIMEOUT)
        self.callback(process.kill)
        wait_until(lambda: listens(port) or process.poll() is not None, f"{contender.name} listens")
        if process.poll() is not None:
            raise WrongError(f"{contender.name} did not start:\n{said.read_text('utf-8', 'replace')}")
        return Running(contender, process.pid, port, contender.ledger(port, log))

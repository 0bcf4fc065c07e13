"""``python -m service sandbox`` as a process, as ``make run`` starts it."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.lines import read_line
from tests.support.processes import TIMEOUT, started


class Sandbox:
    """A started sandbox and what it printed."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        self.banner = ""
        assert process.stderr is not None
        while "Ctrl-C" not in self.banner:
            line = process.stderr.readline().decode()
            assert line, f"it did not start: {self.banner}"
            self.banner += line
        self.service_url, self.clerk_url = re.findall(r" at (http://[0-9.]+:[0-9]+)", self.banner)
        self.curls: list[str] = re.findall(r"^ +(curl .*)$", self.banner, re.MULTILINE)

    def next_event(self) -> dict[str, object]:
        assert self.process.stdout is not None
        return read_line(self.process.stdout.readline())


@contextmanager
def start_sandbox(**variables: str) -> Iterator[Sandbox]:
    """Start it on free ports, and end it."""
    with started(["sandbox", "--port", "0", "--clerk-port", "0"], variables) as process:
        yield Sandbox(process)


def run(command: str, directory: Path | None = None) -> str:
    """Run a command as the banner and the docs show it."""
    return subprocess.run(  # noqa: S602 - it is what people are asked to do
        command, shell=True, cwd=directory, capture_output=True, text=True, timeout=TIMEOUT, check=True
    ).stdout

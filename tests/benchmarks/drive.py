"""Drives a server with wrk."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).with_name("wrk.lua")
TIMEOUT = 10
"""Seconds after which wrk counts a request as unanswered."""


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent.

    Attributes:
        requests: file of whole requests, sent in turn.
        connections: open at once, each with one request under way.
        seconds: how long.
        pause: milliseconds, on average, between an answer and the next request of that connection.
    """

    requests: Path
    connections: int = 64
    seconds: int = 3
    pause: float = 0


@dataclass(frozen=True, slots=True)
class Answers:
    """What came back, as wrk counted it.

    Attributes:
        responses: complete ones, whatever their status.
        microseconds: how long it drove.
        p50: of the times between a request and its response, in microseconds, as are the others.
        p99: likewise.
        p999: likewise.
        not_ok: responses with another status than 2xx or 3xx.
        unanswered: connections that broke, and requests that timed out.
    """

    responses: int
    microseconds: int
    p50: int
    p99: int
    p999: int
    not_ok: int
    unanswered: int

    @property
    def rate(self) -> float:
        """Responses per second."""
        return self.responses / self.microseconds * 1e6


def drive(port: int, load: Load) -> Answers:
    """Drive the server at a port of 127.0.0.1 with one thread."""
    options = ["-t1", f"-c{load.connections}", f"-d{load.seconds}s", f"--timeout={TIMEOUT}s", f"--script={SCRIPT}"]
    command = ["wrk", *options, f"http://127.0.0.1:{port}", "--", str(load.requests), str(load.pause)]
    return parse(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def parse(output: str) -> Answers:
    """Read what wrk printed; the script's line is the last one."""
    return Answers(**json.loads(output.splitlines()[-1]))

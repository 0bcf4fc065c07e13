"""From the start of a process to its first answer to a logout."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from tests.benchmarks import tokens
from tests.benchmarks.accounting import processor_seconds
from tests.benchmarks.checks import ask
from tests.benchmarks.contenders import PIPED, SERVICE, Contender, all_contenders
from tests.benchmarks.report import Section, Target
from tests.benchmarks.running import TIMEOUT, Bench, StartError

MOST = 1.0
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Start:
    """One start, until the first 200.

    Attributes:
        seconds: by the clock on the wall.
        processor: seconds of processor time.
    """

    seconds: float
    processor: float


def starts(rounds: int, progress: Callable[[str], None]) -> Section:
    """Measure it.

    Raises:
        StartError: one did not answer.
    """
    contenders = [contender for contender in all_contenders() if contender.name != PIPED]
    token = tokens.valid()[0]
    of_each: dict[str, list[Start]] = {contender.name: [] for contender in contenders}
    for number in range(rounds):
        for contender in contenders:
            start = start_once(contender, token)
            of_each[contender.name].append(start)
            progress(f"start {number + 1} of {rounds}, {contender.name}: {start.seconds:.2f} s")
    return section(of_each)


def start_once(contender: Contender, token: str) -> Start:
    """Start a contender, ask until it answers 200, and end it.

    Raises:
        StartError: it does not answer.
    """
    with Bench() as bench:
        began = time.monotonic()
        running = bench.spawn(contender)
        while not _answers(running.port, token):
            if time.monotonic() - began > TIMEOUT:
                raise StartError(f"{contender.name} does not answer")
            time.sleep(0.002)
        return Start(time.monotonic() - began, processor_seconds(running.pid))


def _answers(port: int, token: str) -> bool:
    try:
        return ask(port, token) == 200
    except OSError:
        return False


def section(of_each: Mapping[str, Sequence[Start]]) -> Section:
    """Tell what came out."""
    medians = {
        name: (median(start.seconds for start in of_one), median(start.processor for start in of_one))
        for name, of_one in of_each.items()
    }
    rows = [[name, f"{seconds:.2f}", f"{processor:.2f}"] for name, (seconds, processor) in medians.items()]
    ours, _ = medians[SERVICE]
    target = Target("start to first 200", f"{ours:.2f} s", f"{MOST:.0f} s", ours <= MOST)
    text = "From the start of the process to the first 200 on a verified logout; Python's bytecode is cached."
    return Section("Start", text, ["contender", "seconds", "processor seconds"], rows, [target])

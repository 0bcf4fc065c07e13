"""Interleaved rounds, in each of which every variant is driven once, in another order; and the figures they give."""

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from statistics import median

import psutil  # type: ignore[import-untyped] # it brings no types

from tests.benchmarks.load import Load, drive
from tests.benchmarks.report import Ratio, progress
from tests.benchmarks.running import Running
from tests.benchmarks.verdicts import check_answers, check_refusals, check_run, check_suppressed

WARM_UP = 2
"""Seconds; Node compiles its hot code within them."""
LOOK = 0.15
"""Seconds between two looks at whether a process is idle."""
IDLE = 10
"""Percent of a processor."""
NEVER_IDLE = 30
"""Seconds after which a process is taken for one that never is."""


@dataclass(frozen=True, slots=True)
class Figures:
    """One run, or the medians of several: responses per second; processor time per request, and waits, in microseconds.

    ``beside`` is the processor time of another process, such as Redis.
    """

    rate: float
    cost: float
    p50: float
    p99: float
    p999: float
    beside: float = 0


Runs = Mapping[str, Sequence[Figures]]
"""The runs of each variant, by its label, in the order of the rounds."""


@dataclass(frozen=True, slots=True)
class Variant:
    """What is compared with other variants.

    Attributes:
        expected: the verdict on each request; None where nobody tells it, and only the answers can be looked at.
        suppressed: flood control may have the service count requests without a line of their own.
        beside: the id of another process whose processor time is of interest.
    """

    label: str
    running: Running
    load: Load
    expected: str | None = "verified"
    suppressed: bool = False
    beside: int | None = None


def medians(runs: Sequence[Figures]) -> Figures:
    return Figures(*(median(getattr(run, field.name) for run in runs) for field in fields(Figures)))


def cost_ratio(ours: Sequence[Figures], theirs: Sequence[Figures]) -> Ratio:
    """Compare processor time per request, each round by itself: what slows the machine for a while slows both."""
    return Ratio.of([one.cost / other.cost for one, other in zip(ours, theirs, strict=True)])


def processor_seconds(pid: int | None) -> float:
    """Give the processor time of a process, user and system, all its threads, in seconds; none for no process."""
    return 0 if pid is None else sum(psutil.Process(pid).cpu_times()[:2])


def wait_until_idle(pid: int) -> None:
    """Wait until a process has nothing to do: what was under way when wrk ended has had its turn.

    On a busy machine a process that waits for a processor is no more idle than one that has it.
    """
    process, deadline = psutil.Process(pid), time.monotonic() + NEVER_IDLE
    process.cpu_percent()
    while time.monotonic() < deadline:
        time.sleep(LOOK)
        if process.cpu_percent() < IDLE and process.status() != psutil.STATUS_RUNNING:
            return


def interleaved(variants: Sequence[Variant], rounds: int) -> Runs:
    """Warm all up, then drive them in turn."""
    tell_verdicts = {variant.running.pid: variant.running for variant in variants if variant.expected is not None}

    def check(number: int) -> None:
        for running in tell_verdicts.values():
            if running.contender.settings["CLERK_JWT_KEY"]:  # a ring of other keys refuses these tokens anyway
                expiry = running.contender.expiry
                check_refusals(running.name, running.port, running.ledger, expiry=expiry, number=number)

    check(0)
    for variant in variants:
        run(replace(variant, load=replace(variant.load, seconds=WARM_UP)))
    runs: dict[str, list[Figures]] = {variant.label: [] for variant in variants}
    for number in range(rounds):
        for variant in ordered(variants, number):
            figures = run(variant)
            runs[variant.label].append(figures)
            cost = f"{figures.cost:.1f} µs per request, {figures.rate:,.0f}/s"
            progress(f"round {number + 1} of {rounds}, {variant.label}: {cost}")
        check(number + 1)
    return runs


def ordered(variants: Sequence[Variant], number: int) -> list[Variant]:
    """Give the order in a round: by chance, so that none always follows the same one, but alike in each benchmark."""
    return random.Random(number).sample(variants, len(variants))


def run(variant: Variant) -> Figures:
    """Drive a variant once and hold it to its verdicts.

    The cost is what the process used, over the requests that it handled: at the end of wrk's time some are under way,
    whose answers wrk no longer counts."""
    running, expected = variant.running, variant.expected
    running.ledger(0)
    before = [processor_seconds(pid) for pid in (running.pid, variant.beside)]
    answers = drive(running.port, variant.load)
    wait_until_idle(running.pid)
    after = [processor_seconds(pid) for pid in (running.pid, variant.beside)]
    handled = answers.responses
    if expected is None:
        check_answers(variant.label, answers)
    elif variant.suppressed:
        check_suppressed(variant.label, expected, answers, running.ledger(0))
    else:
        verdicts = running.ledger(answers.responses)
        check_run(variant.label, expected, answers, verdicts, variant.load.connections)
        handled = verdicts.said[expected]
    cost, beside = ((end - begin) / handled * 1e6 for begin, end in zip(before, after, strict=True))
    return Figures(answers.rate, cost, answers.p50, answers.p99, answers.p999, beside)

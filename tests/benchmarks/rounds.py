"""Interleaved rounds: in each every variant is driven once, in another order each time."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from tests.benchmarks.accounting import processor_seconds, wait_until_idle
from tests.benchmarks.checks import check_answers, check_refusals, check_run, check_suppressed
from tests.benchmarks.drive import Load, drive
from tests.benchmarks.figures import Figures
from tests.benchmarks.running import Running

WARM_UP = 2
"""Seconds; Node compiles its hot code within them."""

Runs = Mapping[str, Sequence[Figures]]
"""The runs of each variant, by its label, in the order of the rounds."""


@dataclass(frozen=True, slots=True)
class Variant:
    """What is compared with other variants.

    Attributes:
        label: in the report.
        running: who is driven.
        load: with what.
        expected: the verdict on each request; None where nobody tells it, and only the answers can be looked at.
        suppressed: flood control may have the service count requests without a line of their own.
        beside: another process whose processor time is of interest, such as Redis.
    """

    label: str
    running: Running
    load: Load
    expected: str | None = "verified"
    suppressed: bool = False
    beside: int | None = None


def interleaved(variants: Sequence[Variant], rounds: int, progress: Callable[[str], None]) -> Runs:
    """Warm all up, then drive them in turn.

    Raises:
        WrongError: one did not do what is measured.
    """
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
            progress(
                f"round {number + 1} of {rounds}, {variant.label}: "
                f"{figures.cost:.1f} µs per request, {figures.rate:,.0f}/s"
            )
        check(number + 1)
    return runs


def ordered(variants: Sequence[Variant], number: int) -> list[Variant]:
    """Give the order in a round: by chance, so that none always follows the same one, but alike in each benchmark."""
    return random.Random(number).sample(variants, len(variants))


def run(variant: Variant) -> Figures:
    """Drive a variant once and hold it to its verdicts.

    The cost is what the process used, over the requests that it handled: at the end of wrk's time some are under way,
    whose answers wrk no longer counts.

    Raises:
        WrongError: it did not do what is measured.
    """
    running = variant.running
    running.ledger.take()
    before, beside_before = processor_seconds(running.pid), _beside(variant)
    answers = drive(running.port, variant.load)
    wait_until_idle(running.pid)
    told = variant.expected is not None and not variant.suppressed
    verdicts = running.ledger.take(answers.responses if told else 0)
    used, beside = processor_seconds(running.pid) - before, _beside(variant) - beside_before
    handled = answers.responses
    if variant.expected is None:
        check_answers(variant.label, answers)
    elif variant.suppressed:
        check_suppressed(variant.label, variant.expected, answers, verdicts)
    else:
        check_run(variant.label, variant.expected, answers, verdicts, variant.load.connections)
        handled = verdicts.said[variant.expected]
    microseconds = used / handled * 1e6, beside / handled * 1e6
    return Figures(answers.rate, microseconds[0], answers.p50, answers.p99, answers.p999, microseconds[1])


def _beside(variant: Variant) -> float:
    return processor_seconds(variant.beside) if variant.beside is not None else 0

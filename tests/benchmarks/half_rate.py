"""How long a request waits while the server is half busy: what a user meets on a good day.

wrk's timers tick in milliseconds, so requests come in small bunches; the limit beside the service shows what that does.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median

from tests.benchmarks import tokens
from tests.benchmarks.contenders import LIMIT, SERVICE, limit, service
from tests.benchmarks.drive import Load, drive
from tests.benchmarks.figures import Figures, Ratio
from tests.benchmarks.report import Section, Target
from tests.benchmarks.rounds import WARM_UP, Variant, ordered, run
from tests.benchmarks.running import Bench

CONNECTIONS = 64
MOST = 3.0
"""p99 as a multiple of p50."""

Pairs = Sequence[tuple[Figures, Figures]]
"""In each round one run at the maximum rate, and one at about half of it."""


def half_rate(rounds: int, seconds: int, progress: Callable[[str], None]) -> Section:
    """Measure it.

    Raises:
        WrongError: the verdicts were wrong.
        StartError: something did not start.
    """
    with Bench() as bench:
        load = Load(bench.requests(tokens.valid()), CONNECTIONS, seconds)
        variants = [Variant(each.name, each, load) for each in (bench.start(service(SERVICE)), bench.start(limit()))]
        for variant in variants:
            run(replace(variant, load=replace(load, seconds=WARM_UP)))
        pairs: dict[str, list[tuple[Figures, Figures]]] = {variant.label: [] for variant in variants}
        for number in range(rounds):
            for variant in ordered(variants, number):
                most = run(variant)
                pause = find_pause(variant, most.rate / 2)
                half = run(replace(variant, load=replace(load, pause=pause)))
                pairs[variant.label].append((most, half))
                progress(
                    f"round {number + 1} of {rounds}, {variant.label}: {most.rate:,.0f}/s; "
                    f"at {half.rate:,.0f}/s p50 {half.p50:.0f} µs, p99 {half.p99:.0f} µs"
                )
        return section(pairs)


def find_pause(variant: Variant, wanted: float) -> float:
    """Give the pause in milliseconds with which so many requests per second come.

    A connection's turn takes the pause, the answer, and what wrk's timer is late; a short run shows the latter two.
    """
    turn = CONNECTIONS / wanted * 1000
    answers = drive(variant.running.port, replace(variant.load, seconds=1, pause=turn))
    late = CONNECTIONS / answers.rate * 1000 - turn
    return max(turn - late, 0.5)


def section(pairs: dict[str, list[tuple[Figures, Figures]]]) -> Section:
    """Tell what came out."""
    rows = []
    for name, of_one in pairs.items():
        most, reached, p50, p99 = (
            median(values)
            for values in zip(*((most.rate, half.rate, half.p50, half.p99) for most, half in of_one), strict=True)
        )
        row = [name, f"{most:,.0f}", f"{reached:,.0f}", f"{p50:.0f}", f"{p99:.0f}", str(spread(of_one))]
        rows.append(row)
    ours = spread(pairs[SERVICE])
    target = Target.ratio("p99 at half of the maximum rate, as a multiple of p50", ours, MOST)
    text = (
        f"{CONNECTIONS} connections; each pauses at random between an answer and its next request, so that about half "
        f"of the rate comes that was the maximum in the same round. {LIMIT} shows what the server alone does."
    )
    head = ["", "maximum/s", "reached/s", "p50 µs", "p99 µs", "p99/p50"]
    return Section("Half of the maximum rate", text, head, rows, [target])


def spread(pairs: Pairs) -> Ratio:
    """Give p99 as a multiple of p50 at half of the rate."""
    ratios = [half.p99 / half.p50 for _, half in pairs]
    return Ratio(median(ratios), min(ratios), max(ratios))

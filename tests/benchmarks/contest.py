"""The main table: this service beside the limit and beside what others would pick, all on verified logouts."""

from collections.abc import Callable

from tests.benchmarks import tokens
from tests.benchmarks.accounting import Memory, memory
from tests.benchmarks.contenders import FASTAPI, HONO, LIMIT, NAIVE, PIPED, SERVICE, all_contenders
from tests.benchmarks.drive import Load
from tests.benchmarks.figures import cost_ratio, medians
from tests.benchmarks.report import Section, Target
from tests.benchmarks.rounds import Runs, Variant, interleaved
from tests.benchmarks.running import Bench

AT_MOST = {NAIVE: 0.55, FASTAPI: 0.50, HONO: 0.75, LIMIT: 1.9}
"""The service's processor time per request as a part of each contender's."""
MOST_MEMORY = 90
"""MB of one worker after load."""


def contest(rounds: int, seconds: int, progress: Callable[[str], None]) -> Section:
    """Run it.

    Raises:
        WrongError: a contender's verdicts were wrong; the figures would mean nothing.
        StartError: one did not start.
    """
    with Bench() as bench:
        contenders = [bench.start(contender) for contender in all_contenders()]
        load = Load(bench.requests(tokens.valid()), seconds=seconds)
        runs = interleaved([Variant(running.name, running, load) for running in contenders], rounds, progress)
        return section(runs, {running.name: memory(running.pid) for running in contenders})


def section(runs: Runs, memories: dict[str, Memory]) -> Section:
    """Tell what came out."""
    rows = []
    for name, of_one in runs.items():
        figures, held = medians(of_one), memories[name]
        times = [f"{value / 1000:.2f}" for value in (figures.p50, figures.p99, figures.p999)]
        memory_cells = [f"{held.rss:.0f}", f"{held.pss:.0f}"]
        rows.append([name, f"{figures.cost:.1f}", f"{figures.rate:,.0f}", *times, *memory_cells])
    targets = [
        Target.ratio(f"processor time, {ours} against {name}", cost_ratio(runs[ours], runs[name]), at_most)
        for ours in (SERVICE, PIPED)
        for name, at_most in AT_MOST.items()
    ]
    rss = memories[SERVICE].rss
    targets.append(Target("memory of a worker after load", f"{rss:.0f} MB", f"{MOST_MEMORY} MB", rss <= MOST_MEMORY))
    head = ["contender", "µs/request", "requests/s", "p50 ms", "p99 ms", "p99.9 ms", "RSS MB", "PSS MB"]
    return Section("Contenders", "Verified logouts, 64 connections, as fast as each answers.", head, rows, targets)

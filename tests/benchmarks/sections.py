"""The main table, the waiting at half of the rate, and the start: this service beside others on verified logouts."""

import time
from dataclasses import replace
from statistics import median

import psutil  # type: ignore[import-untyped] # it brings no types

from tests.benchmarks import load, measure
from tests.benchmarks.contenders import FASTAPI, HONO, LIMIT, NAIVE, PIPED, SERVICE, all_contenders
from tests.benchmarks.contenders import limit as the_limit
from tests.benchmarks.contenders import service as the_service
from tests.benchmarks.load import CONNECTIONS, LOGOUT, drive
from tests.benchmarks.measure import Figures, Variant, cost_ratio, interleaved, medians, run
from tests.benchmarks.report import Ratio, Section, Target, progress
from tests.benchmarks.running import Bench
from tests.benchmarks.verdicts import WrongError, get

AT_MOST = {NAIVE: 0.60, FASTAPI: 0.55, HONO: 0.60, LIMIT: 2.1}
"""The service's processor time per verified logout as a part of each contender's."""
MOST_MEMORY = 90
"""MB of the service after load."""
MOST_SPREAD = 3.0
"""p99 as a multiple of p50 at half of the rate."""
SLOWEST_START = 1.0
"""Seconds."""


def contest(rounds: int) -> Section:
    with Bench() as bench:
        contenders = [bench.start(contender) for contender in all_contenders()]
        valid = bench.load(load.verified())
        runs = interleaved([Variant(running.name, running, valid) for running in contenders], rounds)
        memories = {running.name: psutil.Process(running.pid).memory_full_info() for running in contenders}
    megabytes = {name: (held.rss / 2**20, held.pss / 2**20) for name, held in memories.items()}
    rows = []
    for name, of_one in runs.items():
        figures = medians(of_one)
        times = [f"{value / 1000:.2f}" for value in (figures.p50, figures.p99, figures.p999)]
        memory = [f"{value:.0f}" for value in megabytes[name]]
        rows.append([name, f"{figures.cost:.1f}", f"{figures.rate:,.0f}", *times, *memory])
    targets = [
        Target.ratio(f"processor time, {ours} against {name}", cost_ratio(runs[ours], runs[name]), at_most)
        for ours in (SERVICE, PIPED)
        for name, at_most in AT_MOST.items()
    ]
    rss, _ = megabytes[SERVICE]
    targets.append(Target("memory after load", f"{rss:.0f} MB", f"{MOST_MEMORY} MB", rss <= MOST_MEMORY))
    head = ["contender", "µs/request", "requests/s", "p50 ms", "p99 ms", "p99.9 ms", "RSS MB", "PSS MB"]
    text = f"Verified logouts, {CONNECTIONS} connections, as fast as each answers."
    return Section("Contenders", text, head, rows, targets)


def half_rate(rounds: int) -> Section:
    """Measure how long a request waits while the server is half busy: what a user meets on a good day.

    wrk's timers tick in milliseconds, so requests come in small bunches; the limit shows what that does."""
    with Bench() as bench:
        valid = bench.load(load.verified())
        variants = [Variant(each.name, bench.start(each), valid) for each in (the_service(SERVICE), the_limit())]
        for variant in variants:
            run(replace(variant, load=replace(valid, seconds=measure.WARM_UP)))
        pairs: dict[str, list[tuple[Figures, Figures]]] = {variant.label: [] for variant in variants}
        for number in range(rounds):
            for variant in measure.ordered(variants, number):
                most = run(variant)
                half = run(replace(variant, load=replace(valid, pause=_pause_for(variant, most.rate / 2))))
                pairs[variant.label].append((most, half))
                waited = f"at {half.rate:,.0f}/s p50 {half.p50:.0f} µs, p99 {half.p99:.0f} µs"
                progress(f"round {number + 1} of {rounds}, {variant.label}: {most.rate:,.0f}/s; {waited}")
    rows, spreads = [], {}
    for name, of_one in pairs.items():
        spreads[name] = Ratio.of([half.p99 / half.p50 for _, half in of_one])
        most, half = (medians(runs) for runs in zip(*of_one, strict=True))
        figures = [f"{most.rate:,.0f}", f"{half.rate:,.0f}", f"{half.p50:.0f}", f"{half.p99:.0f}"]
        rows.append([name, *figures, str(spreads[name])])
    what = "p99 at half of the maximum rate, as a multiple of p50"
    text = (
        f"{CONNECTIONS} connections; each pauses at random between an answer and its next request, so that about half "
        f"of the rate comes that was the maximum in the same round. {LIMIT} shows what the server alone does."
    )
    head = ["", "maximum/s", "reached/s", "p50 µs", "p99 µs", "p99/p50"]
    targets = [Target.ratio(what, spreads[SERVICE], MOST_SPREAD)]
    return Section("Half of the maximum rate", text, head, rows, targets)


def _pause_for(variant: Variant, wanted: float) -> float:
    """Give the pause in milliseconds with which so many requests per second come.

    A connection's turn takes the pause, the answer, and what wrk's timer is late; a short run shows the latter two.
    """
    turn = CONNECTIONS / wanted * 1000
    answers = drive(variant.running.port, replace(variant.load, seconds=1, pause=turn))
    late = CONNECTIONS / answers.rate * 1000 - turn
    return max(turn - late, 0.5)


def starts(rounds: int) -> Section:
    contenders = [contender for contender in all_contenders() if contender.name != PIPED]
    of_each: dict[str, list[tuple[float, float]]] = {contender.name: [] for contender in contenders}
    token = load.verified()[0]
    for number in range(rounds):
        for contender in contenders:
            with Bench() as bench:
                began = time.monotonic()
                running = bench.start(contender)
                status, _ = get(running.port, LOGOUT, token)
                if status != 200:
                    raise WrongError(f"{contender.name} answered {status}")
                seconds, processor = time.monotonic() - began, measure.processor_seconds(running.pid)
            of_each[contender.name].append((seconds, processor))
            progress(f"start {number + 1} of {rounds}, {contender.name}: {seconds:.2f} s")
    both = {name: [median(values) for values in zip(*starts, strict=True)] for name, starts in of_each.items()}
    ours = both[SERVICE][0]
    target = Target("start to first 200", f"{ours:.2f} s", f"{SLOWEST_START:.0f} s", ours <= SLOWEST_START)
    text = "From the start of the process to the first 200 on a verified logout; Python's bytecode is cached."
    rows = [[name, *(f"{value:.2f}" for value in values)] for name, values in both.items()]
    return Section("Start", text, ["contender", "seconds", "processor seconds"], rows, [target])

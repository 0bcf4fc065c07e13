"""Measures what a logout costs, beside the limit of the platform and beside what others would pick."""

import resource
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click

from tests.benchmarks import machine
from tests.benchmarks.growth import GROUPS, grow
from tests.benchmarks.load import SECONDS
from tests.benchmarks.report import Section, document, progress
from tests.benchmarks.sections import contest, half_rate, starts
from tests.benchmarks.verdicts import WrongError

RESULTS = Path(__file__).with_name("RESULTS.md")
ROUNDS, QUICK_ROUNDS = 7, 3

PARTS: dict[str, Callable[[int], Section]] = {
    "contenders": contest,
    "half-rate": half_rate,
    "start": starts,
    **{name: partial(grow, group) for name, group in GROUPS.items()},
}


def preface(rounds: int) -> str:
    return f"""\
Measured on {datetime.now(UTC):%Y-%m-%d} at commit {machine.commit()} by `make bench`.

- Machine: {machine.machine()}.
- Versions: {machine.versions()}.
- How: each contender is a process of its own on 127.0.0.1 (uvicorn with httptools and uvloop where it is
  Python, no access log). All are started once, warmed up, then driven in turn by `wrk -t1` for {SECONDS} s at a time
  in {rounds} interleaved rounds, each in another order. 64 connections send verified logouts with bare headers
  and the tokens of 500 sessions in turn, unless a table says otherwise. Figures are medians of the rounds; a ratio is
  the median of the ratios within each round, beside the lowest and the highest. µs/request is processor time, user and
  system, of the contender's process, as the kernel counts it.
- A run counts only if no answer was an error (400 and above) and the contender's own log (the limit: its count) said
  `verified` (in the table of verdicts: what was sent) once for each answer and at most once for each request that the
  end cut off, naming our 500 users. Before the first round and after each, each contender with our PEM had to refuse a
  forged and an expired token that it had not seen (the limit, which looks at no claim, a forged one). The 500 tokens
  come again and again; no contender remembers them, except behind the guard. Where flood control suppresses lines, and
  behind the guard, only the answers can be counted.
- Who: *limit* is a bare ASGI application that checks one RSA-2048 signature and nothing else; *naive* is Starlette and
  *FastAPI* is FastAPI with `authenticate_request` of Clerk's SDK, its options made once, and structlog as its
  documentation sets it up for speed; *Hono* is Hono with `verifyToken` of `@clerk/backend` and a line to a stream;
  *service* is `python -m service serve` as shipped, but for `FLOOD_PER_SESSION=0`, into a file, or through a pipe
  (whose reader, `cat`, is not counted). The service also spares itself most of Python's garbage collections; the
  others are left as they are.
- Latencies are wrk's own, which it corrects for requests that it could not send while it waited (coordinated omission).
"""


@click.command(help=__doc__)
@click.option(
    "--only", type=click.Choice(list(PARTS)), multiple=True, help="This part; may be repeated. Writes nothing."
)
@click.option("--quick", is_flag=True, help="3 rounds in place of 7, of the contenders only. Writes nothing.")
def main(*, only: tuple[str, ...], quick: bool) -> None:
    """Exit with 2 where something is missing, with 1 where a run went wrong."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))  # in order, so that what was started is ended, too
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a connection is an open file
    chosen, rounds = only or tuple(PARTS), ROUNDS
    if quick:
        chosen, rounds = only or ("contenders",), QUICK_ROUNDS
    try:
        machine.check()
        introduction = preface(rounds)
        sections = []
        for name in chosen:
            sections.append(PARTS[name](rounds))
            click.echo(sections[-1].markdown(), err=True)  # what went wrong later takes nothing back
    except (machine.MissingError, WrongError) as error:
        click.echo(error, err=True)
        sys.exit(2 if isinstance(error, machine.MissingError) else 1)
    text = document(introduction, sections)
    click.echo(text)
    if not (only or quick):
        RESULTS.write_text(text, "utf-8")
        progress(f"written to {RESULTS.relative_to(Path.cwd())}")


if __name__ == "__main__":
    main()

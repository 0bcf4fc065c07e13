"""The command line: ``make bench``, ``make bench-quick``."""

import resource
import sys
import time

import click

from tests.benchmarks import needs
from tests.benchmarks.checks import WrongError
from tests.benchmarks.contest import contest
from tests.benchmarks.report import targets_table
from tests.benchmarks.running import StartError

QUICK_ROUNDS = 3
_started = time.monotonic()


def progress(text: str) -> None:
    """Say what has just been done, and when since the start."""
    click.echo(f"{time.monotonic() - _started:6.0f} s  {text}", err=True)


@click.command(help=__doc__)
@click.option("--rounds", default=7, show_default=True, help="How often each is driven.")
@click.option("--seconds", default=3, show_default=True, help="How long each time.")
@click.option("--quick", is_flag=True, help="The contenders only, 3 rounds; write nothing.")
def main(*, rounds: int, seconds: int, quick: bool) -> None:
    """Exit with 2 where something is missing, with 1 where a run went wrong."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a connection is an open file
    try:
        needs.check()
        sections = [contest(QUICK_ROUNDS if quick else rounds, seconds, progress)]
    except needs.MissingError as error:
        click.echo(error, err=True)
        sys.exit(2)
    except (WrongError, StartError) as error:
        click.echo(error, err=True)
        sys.exit(1)
    for section in sections:
        click.echo(section.markdown())
    click.echo(targets_table(sections))


if __name__ == "__main__":
    main()

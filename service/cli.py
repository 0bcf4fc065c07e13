"""The command line: ``serve``, ``check``, ``report`` and others. Only here the environment is read."""

import asyncio
import json
import logging
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import BinaryIO, NoReturn

import click
from prometheus_client import disable_created_metrics

from service import __version__
from service.check import findings
from service.convert.command import STANDARDS, convert
from service.endpoints.documents import document
from service.events.schemas import asyncapi, schemas
from service.events.spool_files import print_waiting
from service.server import serve as run_server
from service.settings import ConfigurationError, Settings, load_settings, mistyped_names
from service.telemetry.diagnostics import configure_logging

logger = logging.getLogger("service.cli")


def _fail(problem: object) -> NoReturn:
    click.echo(f"clerk-logout: {problem}", err=True)
    sys.exit(2)


class _Commands(click.Group):
    def invoke(self, ctx: click.Context) -> object:
        """Run a command; a setting that cannot be used becomes one line on stderr and exit code 2."""
        try:
            return super().invoke(ctx)
        except ConfigurationError as error:
            _fail(error)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="clerk-logout")
def main() -> None:
    """Record the logouts of applications that use Clerk."""
    _keep_standard_streams()
    disable_created_metrics()  # type: ignore[no-untyped-call]  # no `_created` series beside every counter
    # Libraries that read the settings may have something to say, too.
    configure_logging("warning")


def _keep_standard_streams() -> None:
    """See to it that no file of ours gets the number of a standard stream that is closed."""
    while (number := os.open(os.devnull, os.O_RDWR)) in {0, 1, 2}:
        if number == 1:
            _fail("standard output is closed; redirect it to /dev/null if you do not need it")
    os.close(number)


@main.command()
def serve() -> None:
    """Run the service, configured by environment variables and .env."""
    settings = load_settings()
    for problem in mistyped_names():
        logger.warning(problem)
    run_server(settings)


@main.command()
@click.argument("event", required=False, type=click.Choice(sorted(schemas())))
def schema(event: str | None) -> None:
    """Print the JSON Schema of EVENT, or of all events by name."""
    click.echo(json.dumps(schemas()[event] if event else schemas(), indent=2))


@main.command()
def openapi() -> None:
    """Print the OpenAPI document."""
    click.echo(json.dumps(document(), indent=2))


@main.command("asyncapi")
def print_asyncapi() -> None:
    """Print the events as an AsyncAPI document."""
    click.echo(json.dumps(asyncapi(), indent=2))


@main.command("convert")
@click.option("--to", required=True, type=click.Choice(STANDARDS), help="The standard.")
@click.argument("file", type=click.File("rb"), default="-")
def print_converted(to: str, file: BinaryIO) -> None:
    """Print the events of FILE (or stdin) as OCSF, ECS or OpenTelemetry, one JSON object a line.

    What a standard cannot say is skipped, and what is no event too; stderr says how many of each.
    """
    counts: Counter[str] = Counter()
    sys.stdout.buffer.writelines(convert(file, to, counts))
    sys.stdout.buffer.flush()
    click.echo(f"clerk-logout: {counts.pop('converted', 0)} converted", err=True)
    for name, count in sorted(counts.items()):
        click.echo(f"clerk-logout: {count} skipped: {name}", err=True)


@main.command("spool")
@click.argument("action", type=click.Choice(["show", "drain"]))
@click.argument("directory", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
def print_spool(action: str, directory: Path) -> None:
    """Print the event lines that wait in the spool DIR, and with drain remove them.

    The lines of a process that runs are left alone: it delivers them itself. Nothing is removed before it is written.
    """
    try:
        for sentence in print_waiting(directory, sys.stdout.buffer, drain=action == "drain"):
            click.echo(f"clerk-logout: {sentence}", err=True)
    except OSError as error:
        click.echo(f"clerk-logout: the spool was not printed to its end: {error}", err=True)
        sys.exit(1)


@main.command()
@click.option("--token", metavar="TOKEN", help="Explain the verdict on this session token; - reads it from stdin.")
def check(token: str | None) -> None:
    """Explain the settings, try what they name, and explain why a token is accepted or not.

    Nothing is created, and no secret or token is shown. With --token the port may be in use, by the running service.

    Exit code 0 when all is well; 1 when there are no keys, Redis or the port cannot be used, a variable looks mistyped,
    or the token is not accepted; 2 when a setting is unusable.
    """
    settings = load_settings()
    configure_logging("critical")
    sent = None if token is None else sys.stdin.buffer.read() if token == "-" else os.fsencode(token)
    sys.exit(0 if asyncio.run(_check(settings, sent)) else 1)


async def _check(settings: Settings, token: bytes | None) -> bool:
    is_well = True
    async for line, is_as_it_should_be in findings(settings, token):
        click.echo(line)
        is_well = is_well and is_as_it_should_be
    return is_well


@main.command()
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="Port of the service.")
@click.option("--clerk-port", default=8001, show_default=True, type=click.IntRange(0, 65535), help="Port of 'Clerk'.")
@click.option(
    "--packages", type=click.Path(path_type=Path), help="Where clerk-js and ui are unpacked, for `make example`."
)
def sandbox(port: int, clerk_port: int, packages: Path | None) -> None:
    """Run the service with a stand-in for Clerk, on 127.0.0.1 only.

    Tokens are really signed and really verified; only the users are invented. No setting is read.
    """
    try:
        # Here, because only who tries it out needs the stand-in and the HTTP client.
        from service.sandbox.command import run_sandbox  # noqa: PLC0415
    except ModuleNotFoundError as error:
        _fail(f"{error.name} is missing: the production image has no sandbox; run it in the clone")
    with tempfile.TemporaryDirectory(prefix="clerk-logout-") as directory:
        run_sandbox(port, clerk_port, Path(directory), packages)


@main.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@click.option("--html", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="Write a page to FILE.")
@click.option("--since", metavar="TIME", help="Only logouts from then on: 2026-11-21 or 2026-11-21T06:00+01:00.")
@click.option("--until", metavar="TIME", help="Only logouts before then.")
@click.option("--timezone", default="UTC", show_default=True, metavar="ZONE", help="What days and hours are of.")
@click.option("--bad-lines", is_flag=True, help="Print the lines that are no events to stderr, too.")
def report(
    files: tuple[str, ...],
    *,
    as_json: bool,
    html: Path | None,
    since: str | None,
    until: str | None,
    timezone: str,
    bad_lines: bool,
) -> None:
    """Report the logouts in event FILEs: plain or gzip, quoted globs, or - for stdin.

    Exit code 2 when a file cannot be read or none has an event.
    """
    try:
        # Here, because it needs packages that the service does not.
        from service.report.command import report as run_report  # noqa: PLC0415
        from service.report.command import window_of  # noqa: PLC0415
        from service.report.inputs import UnusableInputError  # noqa: PLC0415
    except ModuleNotFoundError as error:
        _fail(f"{error.name} is missing; the report needs: pip install 'clerk-logout[report]'")
    try:
        window = window_of(since, until, timezone)
        run_report(files, window, as_json=as_json, html=html, show_bad_lines=bad_lines)
    except UnusableInputError as error:
        _fail(error)

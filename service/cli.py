"""The command line: ``serve``, ``sandbox``, ``check``, ``schema``, ``openapi``. Only here settings are asked for."""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from service import __version__
from service.diagnostics import configure_logging
from service.endpoints.openapi import document
from service.events.schemas import schemas
from service.explain import explain
from service.resources import (
    check_clerk_api,
    check_event_log,
    check_spool,
    load_pem_key,
)
from service.server import exit_cleanly_on_signals
from service.server import serve as run_server
from service.settings import ConfigurationError, load_settings


@contextmanager
def _one_line_for_mistakes() -> Iterator[None]:
    """Turn an unusable setting into one line on stderr and exit code 2."""
    try:
        yield
    except ConfigurationError as error:
        click.echo(f"clerk-logout: {error}", err=True)
        sys.exit(2)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="clerk-logout")
def main() -> None:
    """Record the logouts of applications that use Clerk."""
    _keep_standard_streams()
    # Libraries that read the settings may have something to say, too.
    configure_logging("warning")


def _keep_standard_streams() -> None:
    """See to it that no file of ours gets the number of a standard stream that was closed before we started."""
    for number in (0, 2):
        try:
            os.fstat(number)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
    try:
        os.fstat(1)
    except OSError:
        click.echo("clerk-logout: standard output is closed; lead it to /dev/null if nobody needs it", err=True)
        sys.exit(2)


@main.command()
def serve() -> None:
    """Run the service, as the environment configures it."""
    with _one_line_for_mistakes():
        sys.exit(run_server(load_settings()))


@main.command()
@click.argument("event", required=False, type=click.Choice(sorted(schemas())))
def schema(event: str | None) -> None:
    """Print the JSON Schema of EVENT, or of all events by their names."""
    click.echo(json.dumps(schemas()[event] if event else schemas(), indent=2))


@main.command()
def openapi() -> None:
    """Print the OpenAPI document of every path."""
    click.echo(json.dumps(document(), indent=2))


@main.command()
@click.option("--token", metavar="TOKEN", help="Explain the verdict on this session token; - reads it from stdin.")
def check(token: str | None) -> None:
    """Explain the configuration, and why a token is accepted or not.

    Exit code 0 when all is well, 1 when there are no keys, Redis cannot be used, or the token is not verified, 2 when a
    setting is unusable.
    """
    with _one_line_for_mistakes():
        settings = load_settings()
        pem_key = load_pem_key(settings)
        check_event_log(settings)
        check_spool(settings)
        check_clerk_api(settings)
    configure_logging("critical")
    sent = None if token is None else sys.stdin.buffer.read() if token == "-" else os.fsencode(token)
    sys.exit(0 if asyncio.run(explain(settings, pem_key, sent)) else 1)


@main.command()
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="Port of the service.")
@click.option("--clerk-port", default=8001, show_default=True, type=click.IntRange(0, 65535), help="Port of 'Clerk'.")
def sandbox(port: int, clerk_port: int) -> None:
    """Run the service against a stand-in for Clerk, on 127.0.0.1 only.

    Tokens are really signed and really verified; only the users are invented. No setting is read.
    """
    with _one_line_for_mistakes(), tempfile.TemporaryDirectory(prefix="clerk-logout-") as directory:
        exit_cleanly_on_signals()
        # Here, because only who tries it out needs the stand-in and the HTTP client.
        from service.try_out import run_sandbox  # noqa: PLC0415

        asyncio.run(run_sandbox(port, clerk_port, Path(directory, "events.jsonl")))

"""The command line: ``serve``, ``sandbox``, ``check``, ``schema``, ``openapi``. Only here settings are asked for."""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click
import httpx
import uvicorn

from service import __version__
from service.app import create_app
from service.diagnostics import configure_logging
from service.endpoints.openapi import document
from service.events.schemas import schemas
from service.explain import explain
from service.nonblocking import ATOMIC_WRITE, InheritedDescriptor
from service.resources import (
    check_clerk_api,
    check_event_log,
    check_spool,
    load_pem_key,
)
from service.sandbox.app import create_sandbox
from service.sandbox.instance import Instance
from service.sandbox.webhooks import post_to
from service.server import configure, exit_cleanly_on_signals, listen, url_of
from service.server import serve as run_server
from service.settings import ConfigurationError, Settings, load_settings


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
        asyncio.run(_sandbox(port, clerk_port, Path(directory, "events.jsonl")))


async def _sandbox(port: int, clerk_port: int, event_log: Path) -> None:
    with (
        listen("127.0.0.1", port, setting="--port") as service_socket,
        listen("127.0.0.1", clerk_port, setting="--clerk-port") as clerk_socket,
    ):
        service_url, clerk_url = url_of(service_socket), url_of(clerk_socket)
        instance = Instance(issuer=clerk_url, secret_key="sk_test_sandbox")  # noqa: S106 - opens nothing but the sandbox
        settings = Settings(
            clerk_secret_key=instance.secret_key,
            clerk_api_url=clerk_url,
            # The sandbox's own page under both its names, and the frontend that somebody develops beside it.
            clerk_authorized_parties=(clerk_url, clerk_url.replace("127.0.0.1", "localhost"), "http://localhost:3000"),
            clerk_issuer=clerk_url,
            clerk_webhook_signing_secret=instance.webhook_secret,
            event_log=str(event_log),
            event_spool_dir=str(event_log.with_name("spool")),
        )
        reader = _EventReader(event_log)
        async with httpx.AsyncClient(trust_env=False) as client:
            clerk = create_sandbox(
                instance,
                service_url=service_url,
                read_events=reader.after,
                hosts=("127.0.0.1", "localhost"),
                deliver=post_to(client, f"{service_url}/v1/webhooks/clerk"),
            )
            servers = [
                uvicorn.Server(configure(clerk, log_level="warning", grace=1)),
                uvicorn.Server(configure(create_app(settings), log_level="warning", grace=1)),
            ]
            click.echo(_BANNER.format(service=service_url, clerk=clerk_url), err=True)
            await asyncio.gather(
                servers[0].serve([clerk_socket]), servers[1].serve([service_socket]), reader.print_for_ever()
            )


_BANNER = """\
The service runs at {service}, its stand-in for Clerk at {clerk}.
Everything stays on this machine. Tokens are really signed and really verified; only the users are invented.

In a browser (sign in, log out, watch the events):  {clerk}/

Log out with a valid token:

  curl -i -X DELETE {service}/v1/auth/session -H "Authorization: Bearer $(curl -s -X POST {clerk}/sandbox/token)"

Log out without one:

  curl -i -X DELETE {service}/v1/auth/session

Ask whose token it is, and whether it still counts:

  curl -i {service}/v1/auth/session -H "Authorization: Bearer $(curl -s -X POST {clerk}/sandbox/token)"

End a session at Clerk only, as from its dashboard; the service learns of it by a webhook:

  curl -i -X POST {clerk}/sandbox/sessions/$(curl -s -X POST {clerk}/sandbox/sessions)/end

The event lines follow here, on standard output. Ctrl-C ends it.
"""


class _EventReader:
    """Follows the sandbox's event log, as a consumer would: whole lines only."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def after(self, position: int) -> tuple[list[str], int]:
        """Give the lines after a position in bytes, and the position after them."""
        if not self._path.exists():
            return [], 0
        with self._path.open("rb") as file:
            if position > file.seek(0, os.SEEK_END):
                position = 0  # a page that is older than this sandbox
            file.seek(position)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        return whole.decode("utf-8").splitlines(), position + len(whole)

    async def print_for_ever(self) -> None:
        """Copy the lines to standard output as they come, for as long as somebody reads it."""
        output = InheritedDescriptor(1)
        position, text = 0, b""
        with suppress(BrokenPipeError):
            while True:
                lines, position = self.after(position)
                text += "".join(f"{line}\n" for line in lines).encode()
                with suppress(BlockingIOError):
                    while text:
                        text = text[output.write(text[:ATOMIC_WRITE]) :]
                await asyncio.sleep(0.05)

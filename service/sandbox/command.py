"""The service and its stand-in for Clerk in one process, for ``python -m service sandbox``."""

import asyncio
import os
from contextlib import suppress
from pathlib import Path

import click
import httpx

from service.app import create_app
from service.sandbox.app import create_sandbox
from service.sandbox.instance import Instance
from service.sandbox.webhooks import post_to
from service.server import Server, configure, listen, url_of
from service.settings import Settings
from service.telemetry.nonblocking import ATOMIC_WRITE, InheritedDescriptor


async def run_sandbox(port: int, clerk_port: int, event_log: Path) -> None:
    """Run both until a signal ends them.

    Args:
        port: of the service; 0 for any.
        clerk_port: of the stand-in; 0 for any.
        event_log: the file that the lines go to, and are copied to standard output from.

    Raises:
        ConfigurationError: a port cannot be had.
    """
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
        reader = EventReader(event_log)
        async with httpx.AsyncClient(trust_env=False) as client:
            clerk = create_sandbox(
                instance,
                service_url=service_url,
                read_events=reader.after,
                hosts=("127.0.0.1", "localhost"),
                deliver=post_to(client, f"{service_url}/v1/webhooks/clerk"),
            )
            servers = [
                Server(configure(clerk, log_level="warning", shutdown_timeout=1)),
                Server(configure(create_app(settings), log_level="warning", shutdown_timeout=1)),
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


class EventReader:
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

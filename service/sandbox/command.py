"""The service and its stand-in for Clerk in one process, for ``python -m service sandbox``."""

import socket
from pathlib import Path

import click
import httpx
from starlette.types import Receive, Scope, Send

from service.app import create_app
from service.events.outputs import Output
from service.resources import open_event_log
from service.sandbox.app import create_sandbox
from service.sandbox.instance import Instance
from service.sandbox.webhooks import post_to
from service.server import Server, configure, exit_cleanly_on_signals, listen, url_of
from service.settings import Settings


class PageOutput:
    """An output that keeps each line which another one has taken, for the page to show."""

    def __init__(self, output: Output) -> None:
        self.name, self.max_write, self.may_block = output.name, output.max_write, output.may_block
        self._write, self.close = output.write, output.close
        self.lines: list[str] = []

    def write(self, lines: bytes, timeout: float = 0.0) -> int:
        """As ``Output`` has it."""
        taken = self._write(lines, timeout)
        self.lines += lines[:taken].decode().splitlines()
        return taken


class _SandboxServer(Server):
    banner = ""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Say how to use it only when a signal would already end it in order."""
        await super().startup(sockets)
        click.echo(self.banner, err=True, nl=False)


def run_sandbox(port: int, clerk_port: int, spool: Path, packages: Path | None = None) -> None:
    """Run both until a signal ends them; a port may be 0 for any.

    Raises:
        ConfigurationError: a port cannot be had.
    """
    with (
        listen("127.0.0.1", port, setting="--port")[0] as service_socket,
        listen("127.0.0.1", clerk_port, setting="--clerk-port")[0] as clerk_socket,
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
            event_spool_dir=str(spool),
        )
        output = PageOutput(open_event_log(settings))
        service = create_app(settings, event_log=output)
        clerk = create_sandbox(
            instance,
            service_url=service_url,
            events=output.lines,
            hosts=("127.0.0.1", "localhost"),
            deliver=post_to(httpx.AsyncClient(trust_env=False), f"{service_url}/v1/webhooks/clerk"),
            packages=packages,
        )
        own_port = clerk_socket.getsockname()[1]

        async def either(scope: Scope, receive: Receive, send: Send) -> None:
            is_for_clerk = scope["type"] == "http" and scope["server"][1] == own_port
            await (clerk if is_for_clerk else service)(scope, receive, send)

        exit_cleanly_on_signals()
        server = _SandboxServer(configure(either, log_level="warning", shutdown_timeout=1))
        server.banner = _BANNER.format(service=service_url, clerk=clerk_url)
        server.run(sockets=[service_socket, clerk_socket])


_BANNER = """\
clerk-logout is running at {service}, with a stand-in for Clerk at {clerk}.
Nothing leaves this machine. The tokens are really signed and verified; only the users are made up.

Open this page to sign in, log out and try the rest:

  {clerk}/

Or log out from another terminal:

  curl -i -X DELETE {service}/v1/auth/session -H "Authorization: Bearer $(curl -s -X POST {clerk}/sandbox/token)"

Each event is one line on standard output, below. Press Ctrl-C to stop.
"""

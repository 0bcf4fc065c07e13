"""uvicorn, set up: the listening socket, signals, and the shutdown."""

import asyncio
import errno
import gc
import logging
import os
import resource
import signal
import socket
import sys
from contextlib import suppress
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from service.app import create_app
from service.endpoints.protocol import HttpProtocol
from service.resources import check_settings, open_event_log
from service.settings import ConfigurationError, Settings
from service.telemetry.diagnostics import configure_logging

logger = logging.getLogger("service.server")

SHUTDOWN_TIMEOUT = 7
"""Seconds for the requests under way at a shutdown."""
BACKLOG = 2048
"""Connections that may wait to be accepted."""
GC_THRESHOLD = 50_000
"""New objects before the garbage collector runs: a request leaves nothing for it, and each run stops the event loop."""


class Server(uvicorn.Server):
    """uvicorn's server, which a second signal ends at once, and which answers those who wait to be accepted."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and only then say where: from here on a signal ends the process in order."""
        await super().startup(sockets)
        gc.freeze()  # what was imported lives until the end, and takes long to look through
        gc.set_threshold(GC_THRESHOLD)
        for listener in sockets or ():
            logger.info("listening on %s", url_of(listener))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Tell the app, accept those who wait (closing the listener would reset them), and shut down."""
        if (sign_outs := self.lifespan.state.get("sign_outs")) is not None:
            sign_outs.stop()
        loop = asyncio.get_running_loop()
        for listener in sockets or ():
            # Nothing is awaited between the last look, which finds nobody, and the close.
            while waiting := _accept_all(listener):
                await asyncio.gather(*(loop.connect_accepted_socket(self._protocol, one) for one in waiting))
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin the shutdown; a second signal ends the process at once with 128 + its number."""
        if self.should_exit:
            os._exit(128 + sig)
        super().handle_exit(sig, frame)

    def _protocol(self) -> asyncio.Protocol:
        return HttpProtocol(self.config, self.server_state, self.lifespan.state)


def _accept_all(listener: socket.socket) -> list[socket.socket]:
    accepted = []
    with suppress(OSError):  # nobody waits any more
        while True:
            connection, _ = listener.accept()
            connection.settimeout(0)
            accepted.append(connection)
    return accepted


def listen(host: str, port: int, *, setting: str = "PORT") -> list[socket.socket]:
    """Listen on each address that a name leads to, as ``localhost`` does to 127.0.0.1 and ::1, with the same port.

    An address that this machine does not have is left out, as long as there is another.

    Args:
        host: an address or a name.
        port: 0 for any.
        setting: where the port was set, for the message.

    Raises:
        ConfigurationError: its text names HOST or where the port was set.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError):
        raise ConfigurationError("HOST", "cannot be resolved to an address") from None
    listeners: list[socket.socket] = []
    missing: OSError | None = None
    for family, (address, _, *scope) in dict.fromkeys((family, address) for family, _, _, _, address in found):
        chosen = listeners[0].getsockname()[1] if listeners else port
        # `::` means "everywhere" to whoever writes it, IPv4 included.
        dual = address == "::" and socket.has_dualstack_ipv6()
        bound_to = (address, chosen, *scope)
        try:
            listeners.append(socket.create_server(bound_to, family=family, backlog=BACKLOG, dualstack_ipv6=dual))
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise _problem(error, host, chosen, setting) from None
            missing = error
    if missing is not None and not listeners:
        raise _problem(missing, host, port, setting)
    return listeners


def _problem(error: OSError, host: str, port: int, setting: str) -> ConfigurationError:
    problem = os.strerror(error.errno or 0)
    if error.errno in {errno.EADDRINUSE, errno.EACCES}:
        return ConfigurationError(setting, f"cannot listen on port {port} of {host}: {problem}")
    return ConfigurationError("HOST", f"cannot listen on {host}: {problem}")


def url_of(listener: socket.socket) -> str:
    """Give the URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def configure(
    app: ASGIApp, *, log_level: str, keep_alive: int = 75, shutdown_timeout: int = SHUTDOWN_TIMEOUT
) -> uvicorn.Config:
    """Give uvicorn's configuration for an app, and have its diagnostics go where ours go. Times are in seconds."""
    configure_logging(log_level)
    return uvicorn.Config(
        app,
        interface="asgi3",
        loop="uvloop",
        http=HttpProtocol,
        ws="none",
        lifespan="on",
        server_header=False,
        access_log=False,
        log_config=None,
        proxy_headers=False,  # uvicorn would take any text for an address; see service.events.request
        backlog=BACKLOG,
        timeout_keep_alive=keep_alive,
        timeout_graceful_shutdown=shutdown_timeout,
    )


def allow_open_files() -> None:
    """Raise the limit of open files, which bounds the connections, as far as this user may."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # as in a sandbox
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def exit_cleanly_on_signals() -> None:
    """Make SIGTERM, SIGINT and SIGHUP end the process with 0.

    uvicorn raises the signal that stopped it again when it has finished. Without a handler the process would die of it,
    and a supervisor would see a failure.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))


def serve(settings: Settings) -> None:
    """Run the service until it is told to stop.

    Raises:
        ConfigurationError: it cannot start; the text names the variable.
    """
    check_settings(settings)
    app = create_app(settings, event_log=open_event_log(settings))
    config = configure(app, log_level=settings.log_level, keep_alive=settings.keep_alive_seconds)
    allow_open_files()
    listeners = listen(settings.host, settings.port)
    exit_cleanly_on_signals()
    Server(config).run(sockets=listeners)

"""uvicorn, set up: sockets, protocol, logging, signals."""

import errno
import logging
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial

import uvicorn
from starlette.applications import Starlette
from uvicorn.supervisors import Multiprocess

from service.app import create_app
from service.diagnostics import logging_config
from service.settings import ConfigurationError, Settings

logger = logging.getLogger("service.server")

GRACE = 8
"""Seconds for what is under way at a shutdown."""
KEEP_ALIVE = 15
"""Seconds that an idle connection is kept."""
BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """Open the listening socket.

    Raises:
        ConfigurationError: its text names HOST or PORT.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        # `::` means "everywhere" to whoever writes it, IPv4 included.
        dual = host == "::" and socket.has_dualstack_ipv6()
        return socket.create_server(address[:2], family=family, backlog=BACKLOG, dualstack_ipv6=dual)
    except (socket.gaierror, UnicodeError):
        raise ConfigurationError("HOST", f"{host!r} cannot be resolved to an address") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigurationError("PORT", f"{port} on {host} is in use already") from None
        if error.errno == errno.EACCES:
            raise ConfigurationError("PORT", f"{port} may not be opened by this user (below 1024?)") from None
        raise ConfigurationError("HOST", f"cannot listen on {host}: {error.strerror}") from None


def url_of(listener: socket.socket) -> str:
    """Give the URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def configure(
    app: Starlette | Callable[[], Starlette],
    *,
    log_level: str,
    workers: int = 1,
    forwarded_allow_ips: tuple[str, ...] = (),
    grace: int = GRACE,
) -> uvicorn.Config:
    """Give uvicorn's configuration for an app, or for a function that builds one in each worker."""
    return uvicorn.Config(
        app,
        factory=not isinstance(app, Starlette),
        interface="asgi3",
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        workers=workers,
        server_header=False,
        access_log=False,
        log_config=logging_config(log_level),
        proxy_headers=bool(forwarded_allow_ips),
        forwarded_allow_ips=list(forwarded_allow_ips),
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=grace,
    )


def exit_cleanly_on_signals() -> None:
    """Make SIGTERM and SIGINT end the process with 0.

    uvicorn raises the signal that stopped it once more when it has finished; without a handler the process would then
    die of it, and a supervisor would see a failure.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))


def serve(settings: Settings) -> int:
    """Run the service until it is told to stop.

    Returns:
        The process's exit code.

    Raises:
        ConfigurationError: it cannot start; the text names the variable.
    """
    config = configure(
        partial(create_app, settings),
        log_level=settings.log_level,
        workers=settings.workers,
        forwarded_allow_ips=settings.forwarded_allow_ips,
    )
    with listen(settings.host, settings.port) as listener:
        exit_cleanly_on_signals()
        logger.info("listening on %s", url_of(listener))
        if settings.workers == 1:
            server = uvicorn.Server(config)
            server.run(sockets=[listener])
            return 0 if server.started else 1
        supervisor = Multiprocess(config, sockets=[listener])
        supervisor.run()
        return 1 if any(process.exitcode == 3 for process in supervisor.processes) else 0  # noqa: PLR2004 - uvicorn's STARTUP_FAILURE

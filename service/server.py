"""uvicorn, set up: sockets, protocol, logging, signals."""

import errno
import logging
import multiprocessing
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from service.app import create_app
from service.diagnostics import logging_config
from service.metrics import count_alone
from service.protocol import HttpProtocol
from service.resources import check_clerk_api, check_spool, open_event_log, separate_lists
from service.settings import ConfigurationError, Settings
from service.turns import Turns
from service.worker_metrics import count_in, metrics_directory
from service.workers import Supervisor, WorkerServer, stop_when_readable

logger = logging.getLogger("service.server")

GRACE = 7
"""Seconds for what is under way at a shutdown."""
STARTUP_FAILURE = 3
"""uvicorn's exit code of a worker that cannot start; its supervisor then gives up instead of trying again."""
BACKLOG = 2048


def listen(host: str, port: int, *, setting: str = "PORT") -> socket.socket:
    """Open the listening socket.

    Args:
        host: an address, or a name that leads to one.
        port: 0 for any.
        setting: where the port was set, for the message.

    Raises:
        ConfigurationError: its text names HOST or where the port was set.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        # `::` means "everywhere" to whoever writes it, IPv4 included.
        dual = host == "::" and socket.has_dualstack_ipv6()
        return socket.create_server(address[:2], family=family, backlog=BACKLOG, dualstack_ipv6=dual)
    except (socket.gaierror, UnicodeError):
        raise ConfigurationError("HOST", "cannot be resolved to an address") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigurationError(setting, f"{port} on {host} is in use already") from None
        if error.errno == errno.EACCES:
            raise ConfigurationError(setting, f"{port} may not be opened by this user (below 1024?)") from None
        raise ConfigurationError("HOST", f"cannot listen on {host}: {os.strerror(error.errno or 0)}") from None


def url_of(listener: socket.socket) -> str:
    """Give the URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def configure(
    app: Starlette | Callable[[], Starlette],
    *,
    log_level: str,
    workers: int = 1,
    grace: int = GRACE,
) -> uvicorn.Config:
    """Give uvicorn's configuration for an app, or for a function that builds one in each worker."""
    return uvicorn.Config(
        app,
        factory=not isinstance(app, Starlette),
        interface="asgi3",
        loop="uvloop",
        http=partial(HttpProtocol, turns=Turns()),  # type: ignore[arg-type]  # uvicorn calls it as it would a class
        ws="none",
        lifespan="on",
        workers=workers,
        server_header=False,
        access_log=False,
        log_config=logging_config(log_level),
        proxy_headers=False,  # uvicorn would take any text for an address; see service.request.client
        backlog=BACKLOG,
        timeout_graceful_shutdown=grace,
    )


class Server(WorkerServer):
    """A single process: the first SIGTERM or SIGINT begins its end, a second one ends it with 128 + its number."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so only then: from here on a signal finds somebody who ends it in order."""
        await super().startup(sockets)
        for listener in sockets or ():
            logger.info("listening on %s", url_of(listener))

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal."""
        if self.should_exit:
            os._exit(128 + sig)
        super().handle_exit(sig, frame)


def allow_open_files() -> None:
    """Raise the limit of open files, each connection being one, as far as this user may; workers inherit it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


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
        The process's exit code: 0, or 2 when a worker could not start.

    Raises:
        ConfigurationError: it cannot start; the text names the variable.
    """
    check_clerk_api(settings)
    check_spool(settings)
    if settings.workers == 1:
        return _serve(settings, create_app(settings, open_event_log(settings), count_alone()))
    # A mistake is found here already: one line, not one from each worker.
    create_app(settings, metrics=count_alone())
    held = open_event_log(settings)
    if not Path(settings.event_log).is_fifo():
        held.close()  # a FIFO stays open, so that its reader sees no end before the workers open it
    with metrics_directory(settings.workers) as directory:
        return _serve(settings, partial(_app_of_worker, settings, directory))


def _serve(settings: Settings, app: Starlette | Callable[[], Starlette]) -> int:
    config = configure(
        app,
        log_level=settings.log_level,
        workers=settings.workers,
    )
    allow_open_files()
    with listen(settings.host, settings.port) as listener:
        exit_cleanly_on_signals()
        # uvicorn's supervisor takes it for "replace the workers"; a single process would die of it at once.
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
        if (problem := separate_lists(settings)) is not None:
            logger.warning("REVOCATIONS_URL: %s", problem)
        processes = []
        if settings.workers == 1:
            Server(config).run(sockets=[listener])
        else:
            logger.info("listening on %s", url_of(listener))
            supervisor = Supervisor(config, [listener])
            supervisor.run()
            processes = supervisor.processes
        return 2 if any(process.exitcode == STARTUP_FAILURE for process in processes) else 0


def _app_of_worker(settings: Settings, directory: Path) -> Starlette:
    """Build the app in a worker of several."""
    parent = multiprocessing.parent_process()
    if parent is not None:  # pragma: no cover - only so in a worker, which ends by a signal, and its coverage with it
        stop_when_readable(parent.sentinel)
    try:
        metrics = count_in(directory)
    except OSError as error:
        logger.error("this worker counts for itself alone: %s", error.strerror)  # noqa: TRY400 - one line
        metrics = count_alone()
    # The parent could open the event log. A worker that takes the place of a dead one must start while it cannot be.
    return create_app(settings, open_event_log(settings, must_open=False), metrics)

"""Who is measured: what is started, and where it tells its verdicts."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks.verdicts import Ledger, count, log_file
from tests.support.signing import ORIGIN, pem

NODE = Path(__file__).with_name("node")
SERVICE, PIPED = "service, file", "service, pipe"
LIMIT, NAIVE, FASTAPI, HONO = "limit", "naive", "FastAPI", "Hono"
PEM = {"CLERK_JWT_KEY": pem()}
SETTINGS = {"CLERK_AUTHORIZED_PARTIES": ORIGIN}


@dataclass(frozen=True, slots=True)
class Contender:
    """One server.

    Attributes:
        command: gives what is executed, for a port.
        ledger: gives where its verdicts are found, for its port and the file that EVENT_LOG names.
        piped: its log goes through a pipe into that file, and EVENT_LOG is ``-``.
        expiry: it looks at the token's claims.
    """

    name: str
    command: Callable[[int], list[str]]
    settings: Mapping[str, str] = field(default_factory=dict)
    ledger: Callable[[int, Path], Ledger] = lambda _, path: log_file(path)
    piped: bool = False
    expiry: bool = True


def uvicorn(app: str) -> Callable[[int], list[str]]:
    """Give the command that serves an app of ``tests.benchmarks.apps`` as fast as uvicorn can."""
    module = f"tests.benchmarks.apps.{app}:app"
    options = ["--loop=uvloop", "--http=httptools", "--no-access-log", "--log-level=warning", "--host=127.0.0.1"]
    options += ["--no-proxy-headers", "--no-server-header"]  # the service has neither
    return lambda port: [sys.executable, "-m", "uvicorn", module, *options, f"--port={port}"]


def limit() -> Contender:
    """One RSA verification and the bare server."""
    return Contender(LIMIT, uvicorn("limit"), PEM, lambda port, _: count(port), expiry=False)


def service(name: str = "service", *, piped: bool = False, changes: Mapping[str, str] | None = None) -> Contender:
    """This service as it is shipped, except for the settings named: 500 sessions log out more often than any would."""
    settings = PEM | SETTINGS | {"FLOOD_PER_SESSION": "0"} | dict(changes or {})
    return Contender(name, lambda _: [sys.executable, "-m", "service", "serve"], settings, piped=piped)


def application(name: str, app: str) -> Contender:
    """An application of ``apps``, with the guard's settings in its environment."""
    return Contender(name, uvicorn(app), PEM | SETTINGS)


def all_contenders() -> list[Contender]:
    hono = Contender(HONO, lambda _: ["node", str(NODE / "hono.mjs")], PEM | SETTINGS | {"NODE_ENV": "production"})
    others = [application(NAIVE, "naive"), application(FASTAPI, "with_fastapi"), hono]
    return [limit(), *others, service(SERVICE), service(PIPED, piped=True)]

"""What the settings name, opened: keys, Clerk's Backend API, the event log with its spool, the revocation list.

``app.py`` opens all of it for the service; a guard in somebody else's application opens what it needs of it.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from service import __version__
from service.clerk.keys import KeyRing, PemKey
from service.events.log import EventLog
from service.events.outputs import Output, open_output
from service.events.recorder import Recorder
from service.events.spool import Spool
from service.metrics import Metrics
from service.revocations.memory_store import MemoryStore
from service.revocations.revocation_list import RevocationList
from service.settings import ConfigurationError, Settings

if TYPE_CHECKING:
    from service.clerk.backend_api import BackendApi


def load_pem_key(settings: Settings) -> PemKey | None:
    """Parse ``CLERK_JWT_KEY``, or give None where it is not set.

    Raises:
        ConfigurationError: it cannot be used.
    """
    if settings.clerk_jwt_key is None:
        return None
    try:
        return PemKey(settings.clerk_jwt_key.get_secret_value())
    except ValueError as error:
        raise ConfigurationError("CLERK_JWT_KEY", str(error)) from None


def open_event_log(settings: Settings, *, must_open: bool = True) -> Output:
    """Open what ``EVENT_LOG`` names.

    Args:
        settings: name it.
        must_open: False where it was open before: what cannot be opened now may be opened later.

    Raises:
        ConfigurationError: it cannot be opened, and must be.
    """
    try:
        return open_output(settings.event_log, fsync=settings.event_fsync, must_open=must_open)
    except OSError as error:
        raise ConfigurationError("EVENT_LOG", f"cannot be opened for writing: {error.strerror}") from None


@asynccontextmanager
async def open_recorder(
    settings: Settings, metrics: Metrics, output: Output | None = None
) -> AsyncIterator[tuple[Recorder, EventLog]]:
    """Open the event log with its spool, and a recorder over it.

    Args:
        settings: name them.
        metrics: counts what is recorded, spooled, delivered and lost.
        output: where the lines go, closed with the log; without it what ``EVENT_LOG`` names is opened.

    Raises:
        ConfigurationError: the event log cannot be opened.
    """
    spool = Spool(settings.event_spool_dir, settings.event_spool_max_bytes, fsync=settings.event_fsync)
    log = EventLog(output or open_event_log(settings), spool, metrics)
    await log.start()
    try:
        yield Recorder(log, __version__, metrics), log
    finally:
        await log.close()


def check_event_log(settings: Settings) -> None:
    """Check that the event log could be opened, without creating it or disturbing who reads it.

    Whoever asks may be another user than the service's, and must not leave a file that the service cannot open.

    Raises:
        ConfigurationError: it could not be opened.
    """
    path = Path(settings.event_log)
    try:
        is_fifo, exists = path.is_fifo(), path.exists()
    except OSError as error:
        raise ConfigurationError("EVENT_LOG", f"cannot be opened for writing: {error.strerror}") from None
    if settings.event_log == "-" or (exists and not is_fifo):
        open_event_log(settings).close()
    elif not os.access(path if is_fifo else path.parent, os.W_OK):
        raise ConfigurationError(
            "EVENT_LOG", "cannot be opened for writing: its directory is not there, or not allowed"
        )


def check_spool(settings: Settings) -> None:
    """Check that the spool's directory is there or could be made, without making it.

    Raises:
        ConfigurationError: neither.
    """
    path = Path(settings.event_spool_dir).absolute()
    try:
        while not path.exists():
            path = path.parent
    except OSError as error:
        raise ConfigurationError("EVENT_SPOOL_DIR", f"cannot be used: {error.strerror}") from None
    if path == Path(settings.event_spool_dir).absolute() and path.stat().st_uid not in {0, os.geteuid()}:
        raise ConfigurationError("EVENT_SPOOL_DIR", "belongs to another user, who could put events of his own there")
    if not path.is_dir() or not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise ConfigurationError(
            "EVENT_SPOOL_DIR", "cannot be written to; name a directory on local disk that this user may write to"
        )


def check_clerk_api(settings: Settings) -> None:
    """Check that a client for Clerk's API could be made, in the environment's view of proxies and certificates.

    Raises:
        ConfigurationError: it could not.
    """
    if settings.clerk_secret_key is None:
        return
    # Here and below, because Clerk's SDK takes 0.13 s and 8 MB, which nobody without a secret key should pay.
    from service.clerk.backend_api import client_problem  # noqa: PLC0415

    if (problem := client_problem(settings.clerk_api_url)) is not None:
        raise ConfigurationError("CLERK_API_URL", problem)


@asynccontextmanager
async def open_clerk_api(settings: Settings, metrics: Metrics | None = None) -> AsyncIterator["BackendApi | None"]:
    """Open Clerk's Backend API; None without a secret key. Asks Clerk nothing."""
    if settings.clerk_secret_key is None:
        yield None
        return
    from service.clerk.backend_api import backend_api  # noqa: PLC0415 - as above

    secret_key = settings.clerk_secret_key.get_secret_value()
    async with backend_api(settings.clerk_api_url, secret_key, metrics) as api:
        yield api


@asynccontextmanager
async def open_keys(
    pem_key: PemKey | None, api: "BackendApi | None", metrics: Metrics | None = None
) -> AsyncIterator[PemKey | KeyRing]:
    """Open the keys that verify tokens: the PEM, else a key ring that keeps itself fresh from Clerk."""
    if pem_key is not None:
        yield pem_key
        return
    assert api is not None, "Settings hold a PEM or a secret key"  # noqa: S101 - tells mypy what Settings ensure
    async with KeyRing(api.jwks, metrics=metrics).kept_fresh() as ring:
        yield ring


def separate_lists(settings: Settings) -> str | None:
    """Give what is to be said where each of several workers has a revocation list of its own, else None."""
    if settings.workers == 1 or settings.revocations_url.get_secret_value() != "memory://":
        return None
    return (
        f"with memory:// each of the {settings.workers} workers has a revocation list of its own, and so has each "
        "replica: a token of a session that was signed out at one of them may pass at the others for as long as it "
        "lives; set it to a redis:// URL that all of them share"
    )


def describe_revocations(settings: Settings) -> str:
    """Say where signed-out sessions are kept, without a user name or password."""
    url = urlsplit(settings.revocations_url.get_secret_value())
    if url.hostname is None:
        return "in memory, of each process by itself"
    tls = " with TLS" if url.scheme == "rediss" else ""
    return f"Redis at {url.hostname}:{url.port or 6379}, database {url.path.strip('/') or '0'}{tls}"


@asynccontextmanager
async def open_revocations(settings: Settings, metrics: Metrics) -> AsyncIterator[RevocationList]:
    """Open the revocation list. Redis need not be there yet."""
    url = settings.revocations_url.get_secret_value()
    dropped = metrics.revocations.labels("dropped").inc
    if url == "memory://":
        metrics.revocations_up.set(1)
        yield RevocationList(MemoryStore(on_dropped=dropped), metrics)
        return
    # Here, because redis-py takes 60 ms and 6 MB, which nobody without Redis should pay.
    from service.revocations.redis_commands import RedisCommands  # noqa: PLC0415
    from service.revocations.redis_store import RedisStore  # noqa: PLC0415

    store = RedisStore(RedisCommands(url), on_dropped=dropped, on_change=metrics.revocations_up.set)
    await store.start()
    try:
        yield RevocationList(store, metrics)
    finally:
        await store.close()

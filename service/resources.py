"""Opens what the settings name, for the service and for a guard in somebody else's application."""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from service import __version__
from service.clerk.credentials import session_cookies
from service.clerk.keys import KeyRing, PemKey
from service.clerk.verifier import Verifier
from service.events.log import EventLog
from service.events.outputs import Output, open_output
from service.events.recorder import Recorder
from service.events.request import RequestFacts
from service.events.spool import Spool
from service.revocations.revocation_list import MemoryStore, RevocationList
from service.sessions.check import SessionCheck
from service.settings import ConfigurationError, Settings
from service.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from service.clerk.backend_api import BackendApi
    from service.revocations.redis_commands import RedisCommands


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What is open while the application runs.

    Attributes:
        clerk: None without a secret key.
        session_cookies: the names of this instance's session cookies; None for any.
        logout_verifier: for the record, where a token without ``azp`` is as good as any.
    """

    settings: Settings
    metrics: Metrics
    clerk: "BackendApi | None"
    session_cookies: frozenset[bytes] | None
    keys: PemKey | KeyRing
    verifier: Verifier
    logout_verifier: Verifier
    request_facts: RequestFacts
    event_log: EventLog
    recorder: Recorder
    revocations: RevocationList
    session_check: SessionCheck

    @property
    def is_ready(self) -> bool:
        """Whether logouts can be verified and recorded."""
        return not (self.keys.problem or self.event_log.problem)

    def problems(self) -> dict[str, str | None]:
        """Give what is wrong with each part, in one line without a secret; None where nothing is."""
        return {
            "keys": self.keys.problem,
            "event_log": self.event_log.output_problem,
            "spool": self.event_log.problem,
            "revocations": self.revocations.store.problem or self.revocations.store.warning,
        }


@asynccontextmanager
async def open_resources(
    settings: Settings, metrics: Metrics, *, event_log: Output | None = None
) -> AsyncIterator[Resources]:
    """Open everything, and close it in the opposite order.

    Args:
        settings: say what.
        metrics: count what happens.
        event_log: where the lines go, closed with the log; without it what ``EVENT_LOG`` names is opened.

    Raises:
        ConfigurationError: a setting turns out to be unusable.
    """
    async with AsyncExitStack() as stack:
        spool = Spool(settings.event_spool_dir, settings.event_spool_max_bytes, fsync=settings.event_fsync)
        log = EventLog(event_log or open_event_log(settings), spool, metrics)
        await log.start()
        stack.push_async_callback(log.close)
        recorder = Recorder(log.append, __version__, metrics)
        clerk, keys, revocations = await stack.enter_async_context(open_backends(settings, metrics))
        verifier = verifier_of(settings, keys, azp_required=settings.clerk_azp_required)
        request_facts = RequestFacts(
            origins=settings.clerk_authorized_parties,
            proxies=settings.forwarded_allow_ips,
            with_client_ip=settings.event_client_ip,
            with_user_agent=settings.event_user_agent,
        )
        cookies = session_cookies(settings.clerk_publishable_key)
        fail = settings.revocations_fail
        session_check = SessionCheck(
            verifier, revocations, recorder, request_facts, cookies=cookies, fail=fail, metrics=metrics
        )
        yield Resources(
            settings=settings,
            metrics=metrics,
            clerk=clerk,
            keys=keys,
            session_cookies=cookies,
            verifier=verifier,
            logout_verifier=verifier_of(settings, keys, azp_required=False),
            request_facts=request_facts,
            event_log=log,
            recorder=recorder,
            revocations=revocations,
            session_check=session_check,
        )


def load_pem_key(settings: Settings) -> PemKey | None:
    """Give the key of ``CLERK_JWT_KEY``; None where it is not set."""
    if settings.clerk_jwt_key is None:
        return None
    try:
        return PemKey(settings.clerk_jwt_key.get_secret_value())
    except ValueError as error:
        raise ConfigurationError("CLERK_JWT_KEY", str(error)) from None


def open_event_log(settings: Settings) -> Output:
    """Open what ``EVENT_LOG`` names."""
    try:
        return open_output(settings.event_log, fsync=settings.event_fsync)
    except OSError as error:
        problem = f"cannot be opened for writing: {settings.event_log}: {error.strerror}"
        raise ConfigurationError("EVENT_LOG", problem) from None


def redis_commands(settings: Settings) -> "RedisCommands | None":
    """Give the commands of the Redis in ``REVOCATIONS_URL``, not connected yet; None where the list is in memory."""
    if (url := settings.revocations_url.get_secret_value()) == "memory://":
        return None
    # Here and below, because redis-py takes 60 ms and 6 MB, which nobody without Redis should pay.
    from service.revocations.redis_commands import RedisCommands  # noqa: PLC0415

    try:
        return RedisCommands(url)
    except ValueError as error:
        raise ConfigurationError("REVOCATIONS_URL", str(error)) from None


def check_settings(settings: Settings) -> None:
    """Check that what the settings name could be used, the event log apart; nothing is made, nobody is asked.

    Raises:
        ConfigurationError: something cannot be used; its text names the variable.
    """
    load_pem_key(settings)
    redis_commands(settings)
    path = wanted = Path(settings.event_spool_dir).absolute()
    while not os.path.exists(path):  # noqa: PTH110 - never raises
        path = path.parent
    problem = None
    if not os.access(f"{path}/.", os.W_OK):
        problem = f"cannot be written to: {path} is no directory that this user may write to"
    elif path == wanted and path.stat().st_uid not in {0, os.geteuid()}:
        problem = f"{path} belongs to another user, who could put events there"
    if problem is not None:
        raise ConfigurationError("EVENT_SPOOL_DIR", f"{problem}; name a directory on local disk that this user owns")
    if settings.clerk_secret_key is not None:
        # Here and below, because Clerk's SDK takes 0.13 s and 8 MB, which nobody without a secret key should pay.
        from service.clerk.backend_api import client_problem  # noqa: PLC0415

        if (problem := client_problem(settings.clerk_api_url)) is not None:
            raise ConfigurationError("CLERK_API_URL", problem)


@asynccontextmanager
async def open_backends(
    settings: Settings, metrics: Metrics
) -> AsyncIterator[tuple["BackendApi | None", PemKey | KeyRing, RevocationList]]:
    """Open what verdicts stand on, without waiting for it.

    Returns:
        Clerk's Backend API, None without a secret key; the PEM's key, else a key ring that keeps itself fresh from
        Clerk; and the revocation list.

    Raises:
        ConfigurationError: the PEM, or ``REVOCATIONS_URL``, cannot be used.
    """
    async with AsyncExitStack() as stack:
        clerk: BackendApi | None = None
        keys: PemKey | KeyRing | None = load_pem_key(settings)
        if settings.clerk_secret_key is not None:
            from service.clerk.backend_api import backend_api  # noqa: PLC0415 - as above

            secret_key = settings.clerk_secret_key.get_secret_value()
            clerk = await stack.enter_async_context(backend_api(settings.clerk_api_url, secret_key, metrics))
        if keys is None:
            assert clerk is not None, "Settings hold a PEM or a secret key"  # noqa: S101 - tells mypy what they ensure
            keys = await stack.enter_async_context(KeyRing(clerk.jwks, metrics=metrics).kept_fresh())
        store = MemoryStore(metrics)
        if (redis := redis_commands(settings)) is not None:
            from service.revocations.redis_store import RedisStore  # noqa: PLC0415 - as above

            store = RedisStore(redis, metrics)
        stack.push_async_callback(store.close)
        await store.start()
        yield clerk, keys, RevocationList(store, metrics, clock_skew=settings.clerk_clock_skew_seconds)


def verifier_of(settings: Settings, keys: PemKey | KeyRing, *, azp_required: bool) -> Verifier:
    """Give a verifier of what the settings allow; a token without ``azp`` may do for some purposes only."""
    return Verifier(
        keys,
        authorized_parties=settings.clerk_authorized_parties,
        azp_required=azp_required,
        audiences=settings.clerk_audience,
        issuers=settings.clerk_issuer,
        clock_skew=settings.clerk_clock_skew_seconds,
    )

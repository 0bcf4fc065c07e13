"""Clerk's Backend API through Clerk's SDK. Nothing outside this package imports the SDK.

The SDK's defaults retry a failing call for up to an hour, so the client here has its own timeout and never retries.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx
from clerk_backend_api import Clerk, models
from clerk_backend_api.utils import BackoffStrategy, RetryConfig
from pydantic import BaseModel, TypeAdapter

from service.clerk.errors import ClerkApiError, ClerkKeyRejectedError, ClerkNotFoundError, ClerkRateLimitedError
from service.telemetry.diagnostics import where
from service.telemetry.metrics import Children, Metrics

PAGE_SIZE = 500
"""Sessions in one list: the most that Clerk gives."""
REQUEST_TIMEOUT = 2.0
"""Seconds without progress after which a request is given up; callers set a deadline for the whole."""
MAX_REVOCATIONS = 20
"""At the same time, of all sign-outs together: the SDK takes time of the event loop for each."""
MAX_CONNECTIONS = MAX_REVOCATIONS + 25
"""Room for revocations, one list per sign-out, and the JWKS."""
MAX_RETRY_AFTER = 3600
"""Seconds."""

_NO_RETRIES = RetryConfig("none", BackoffStrategy(0, 0, 1.0, 0), retry_connection_errors=False)
# Narrower than what a token may name: the SDK puts the id into the URL's path as it is.
_is_session_id = re.compile(r"[A-Za-z0-9_-]{1,128}").fullmatch
_is_seconds = re.compile(r"[0-9]{1,9}").fullmatch
_ENDED = frozenset({"abandoned", "ended", "expired", "removed", "replaced", "revoked"})
"""A session with any other status, also one that Clerk may invent, is alive."""


class _Session(BaseModel):
    """What is needed of a session."""

    id: str
    user_id: str
    status: str

    @property
    def is_alive(self) -> bool:
        return self.status not in _ENDED


class _Jwks(BaseModel):
    keys: list[Any] | None = None


_JWKS, _SESSION, _SESSIONS = TypeAdapter(_Jwks), TypeAdapter(_Session), TypeAdapter(list[_Session])
Needed = TypeVar("Needed")


class BackendApi:
    """The calls that the service makes. Each raises ``ClerkApiError`` without a usable response."""

    def __init__(self, sdk: Clerk, metrics: Metrics) -> None:
        # The SDK imports each part on first use; that takes too long to happen within a request.
        self._jwks, self._sessions = sdk.jwks, sdk.sessions
        self._revocations = asyncio.Semaphore(MAX_REVOCATIONS)
        self._requests = Children(metrics.clerk_requests)
        for call in ("get", "list", "revoke"):  # created now, so that a first failure is seen as a change from 0
            for result in ("ok", "not_found", "rate_limited", "refused", "failed"):
                _ = self._requests[call, result]

    async def jwks(self) -> list[Mapping[str, Any]]:
        """Fetch the instance's JWKS (``GET /v1/jwks``); return JWK dictionaries."""
        with _our_errors("a JWKS"):
            jwks = await _needed(_JWKS, self._jwks.get_jwks_async())
        keys = (key.model_dump() if isinstance(key, models.Keys) else key for key in jwks.keys or ())
        return [key for key in keys if isinstance(key, dict)]

    async def alive_sessions(self, user_id: str) -> list[str]:
        """List the ids of a user's sessions that have not ended, newest first (``GET /v1/sessions``, 500 at a time).

        Those that have ended are fetched too: no filter of Clerk's gives sessions with open tasks (``pending``).
        """
        alive: dict[str, bool] = {}  # one that a new session shifts to the next page is listed twice
        offset = 0
        while True:
            with self._counted("list"), _our_errors("a list of sessions"):
                # Never `paginated=True`: the SDK cannot read the response to it.
                call = self._sessions.list_async(user_id=user_id, limit=PAGE_SIZE, offset=offset)
                page = await _needed(_SESSIONS, call)
                if any(session.user_id != user_id for session in page):
                    raise ClerkApiError("the answer holds a session that was not asked for")
                if not all(_is_session_id(session.id) for session in page):
                    raise ClerkApiError("the answer holds a session id that cannot be used")
            alive |= {session.id: session.is_alive for session in page}
            if len(page) < PAGE_SIZE:
                return [session_id for session_id, is_alive in alive.items() if is_alive]
            offset += PAGE_SIZE

    async def revoke_session(self, session_id: str) -> bool:
        """End a session (``POST /v1/sessions/{session_id}/revoke``).

        Returns:
            Whether Clerk says that it is revoked now; False if it had ended in another way. Whoever revokes a session
            that was revoked a moment ago gets True too.

        Raises:
            ClerkApiError: no usable response; the session may have ended all the same.
        """
        try:
            async with self._revocations:
                with self._counted("revoke"), _our_errors("a session"):
                    session = await _needed(_SESSION, self._sessions.revoke_async(session_id=session_id))
                    if session.id != session_id or session.is_alive:
                        raise ClerkApiError("the answer does not say that the session has ended")
        except ClerkNotFoundError:
            return False
        return session.status == "revoked"

    async def is_alive(self, session_id: str) -> bool:
        """Say whether a session has not ended (``GET /v1/sessions/{session_id}``).

        Raises:
            ClerkNotFoundError: Clerk has no such session.
        """
        if not _is_session_id(session_id):
            raise ClerkNotFoundError("Clerk has no session with such an id")
        with self._counted("get"), _our_errors("a session"):
            session = await _needed(_SESSION, self._sessions.get_async(session_id=session_id))
        return session.is_alive

    @staticmethod
    async def warm_up() -> None:
        """Have imported what the first sign-out would import: make its calls once, to a port where nobody can be."""
        async with backend_api("http://127.0.0.1:0", "sk_test_nobody") as nobody:
            await asyncio.gather(nobody.alive_sessions("user"), nobody.revoke_session("sess"), return_exceptions=True)

    @contextmanager
    def _counted(self, call: str) -> Iterator[None]:
        """Count a call by its result; a cancelled one has failed."""
        result = ClerkApiError.result
        try:
            yield
            result = "ok"
        except ClerkApiError as error:
            result = error.result
            raise
        finally:
            self._requests[call, result].inc()


async def _needed(of: TypeAdapter[Needed], call: Awaitable[object]) -> Needed:
    """Make a call and read what is needed of its answer.

    The SDK refuses an answer in which any field is odd, or which has another content type. It is read here then.
    """
    try:
        return of.validate_python(await call, from_attributes=True)
    except models.ClerkBaseError as error:
        if error.status_code == HTTPStatus.OK:
            with suppress(ValueError, RecursionError):
                return of.validate_python(json.loads(error.raw_response.content))
        raise


@contextmanager
def _our_errors(expected: str) -> Iterator[None]:
    """Turn what the SDK and its HTTP client raise into our errors, whose text quotes nobody."""
    try:
        yield
    except ClerkApiError:
        raise
    except models.ClerkBaseError as error:
        raise _status_error(error.status_code, error.headers, expected) from error
    except httpx.HTTPError as error:
        raise ClerkApiError(f"no connection ({type(error).__name__})") from error
    except Exception as error:
        raise ClerkApiError(f"unexpectedly {where(error)}") from error


def _status_error(code: int, headers: Mapping[str, str], expected: str) -> ClerkApiError:
    text = f"Clerk answered with status {code}"
    match code:
        case 200:
            return ClerkApiError(f"the answer is not {expected}")
        case 401 | 403:
            return ClerkKeyRejectedError(f"Clerk does not accept CLERK_SECRET_KEY (status {code})")
        case 404:
            return ClerkNotFoundError(text)
        case 429:
            return ClerkRateLimitedError(text, _retry_after(headers))
    return ClerkApiError(text)


def _retry_after(headers: Mapping[str, str]) -> int | None:
    """Return the seconds of ``Retry-After`` (RFC 9110, 10.2.3), between 1 and 3600; None if it is not a number."""
    text = headers.get("retry-after", "")
    return min(max(int(text), 1), MAX_RETRY_AFTER) if _is_seconds(text) else None


def _client(url: str) -> httpx.AsyncClient:
    proxies = getproxies()
    proxy = proxies.get("https") or proxies.get("all")
    # As urllib does, because httpx takes no IPv6 network in NO_PROXY. A stand-in on this machine is never reached
    # through a proxy, which would see the key.
    if not (has_tls := url.startswith("https://")) or not proxy or proxy_bypass(urlsplit(url).netloc):
        proxy = None
    return httpx.AsyncClient(
        timeout=REQUEST_TIMEOUT,
        verify=httpx.create_ssl_context() if has_tls else False,
        proxy=proxy if proxy is None or "://" in proxy else f"http://{proxy}",
        trust_env=False,
        limits=httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS),
    )


def client_problem(url: str) -> str | None:
    """Say in one line why no client can be created, or return None: the environment may name an unusable proxy."""
    try:
        _client(url)
    except (ImportError, ValueError, OSError, httpx.InvalidURL) as error:
        return f"no client can be created ({type(error).__name__}); check HTTPS_PROXY, ALL_PROXY and SSL_CERT_FILE"
    return None


@asynccontextmanager
async def backend_api(url: str, secret_key: str, metrics: Metrics | None = None) -> AsyncIterator[BackendApi]:
    """Open the Backend API at a URL, ``https://host`` without a path."""
    async with _client(url) as client:
        with httpx.Client(trust_env=False) as unused:  # the SDK would create one of its own
            sdk = Clerk(
                bearer_auth=secret_key,
                server_url=f"{url}/v1",
                client=unused,
                async_client=client,
                retry_config=_NO_RETRIES,
                timeout_ms=int(REQUEST_TIMEOUT * 1000),
            )
            yield BackendApi(sdk, metrics or Metrics())

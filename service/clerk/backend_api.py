"""Clerk's Backend API through Clerk's SDK. Nothing outside this package imports the SDK.

The SDK's defaults retry a failing call for up to an hour, so each client here gets a timeout and "no retries" of ours.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
from clerk_backend_api import Clerk, models
from clerk_backend_api.utils import BackoffStrategy, RetryConfig

from service.clerk.errors import ClerkApiError, ClerkNotFoundError, ClerkRateLimitedError, ClerkRefusesKeyError
from service.clerk.sign_out import PAGE_SIZE
from service.telemetry.diagnostics import where
from service.telemetry.metrics import Children, Metrics

MAX_RESPONSE_BYTES = 4 << 20
"""A page of sessions with room: one is about 900 bytes with its latest activity, and here may be eight times that."""
REQUEST_TIMEOUT = 2.0
"""Seconds without progress after which a request is given up; whoever calls sets the deadline for the whole."""
MAX_REVOCATIONS = 20
"""At the same time, of all sign-outs: the SDK takes some milliseconds of the event loop for each, and the logouts of
others wait for that. At 100 ms each it is 200 a second, twice what Clerk allows a production instance over 10 s."""
MAX_CONNECTIONS = MAX_REVOCATIONS + 25
"""Lists, of which each sign-out under way asks for one at a time, and the JWKS find a free one beside them."""
MAX_OBJECTS = 4_000
"""In one answer. A page of sessions has about 1,500. The SDK takes 0.1 ms of the event loop for each that is not as it
should be."""
RETRY_AFTER = 10
"""Seconds, where Clerk does not say: it counts requests per 10 s (clerk.com/docs, Backend API rate limits)."""
MAX_RETRY_AFTER = 3600

_NO_RETRIES = RetryConfig("none", BackoffStrategy(0, 0, 1.0, 0), retry_connection_errors=False)
# Narrower than what a token may name: the SDK puts the id into the URL's path as it is.
_is_session_id = re.compile(r"[A-Za-z0-9_-]{1,128}").fullmatch
_ALIVE = frozenset({models.Status.ACTIVE, models.Status.PENDING})


class BackendApi:
    """The calls that the service makes.

    Args:
        sdk: makes them.
        metrics: counts those about sessions.
    """

    def __init__(self, sdk: Clerk, metrics: Metrics | None = None) -> None:
        # The SDK imports each part when it is first used; that takes too long to happen within a request.
        self._jwks, self._sessions = sdk.jwks, sdk.sessions
        self._turns = asyncio.Semaphore(MAX_REVOCATIONS)
        self._requests = Children((metrics or Metrics()).clerk_requests)
        for call in ("get", "list", "revoke"):  # made now, so that a first failure is seen as a change from 0
            for result in ("ok", "not_found", "rate_limited", "refused", "failed"):
                _ = self._requests[call, result]

    async def jwks(self) -> list[Mapping[str, Any]]:
        """Fetch the instance's JWKS (``GET /v1/jwks``).

        Returns:
            The keys as JWK dictionaries.

        Raises:
            ClerkApiError: no answer, or not a usable one.
        """
        with _our_errors("a JWKS"):
            jwks = await self._jwks.get_jwks_async()
        return [key.model_dump() for key in jwks.keys or ()]

    async def active_sessions(self, user_id: str, *, offset: int = 0) -> list[str]:
        """List sessions of a user that are active (``GET /v1/sessions``), the newest first.

        Args:
            user_id: whose.
            offset: how many to pass over; what is revoked shifts the rest.

        Returns:
            At most 500 ids, each 1-128 characters of a URL; fewer when there are no more.

        Raises:
            ClerkApiError: no answer, or not a usable one.
        """
        with self._counted("list"), _our_errors("a list of sessions"):
            # Never `paginated=True`: the SDK cannot read the answer to it.
            sessions = await self._sessions.list_async(
                user_id=user_id, status=models.QueryParamStatus.ACTIVE, limit=PAGE_SIZE, offset=offset
            )
            for session in sessions:
                if session.user_id != user_id or session.status is not models.Status.ACTIVE:
                    raise ClerkApiError("the answer holds a session that was not asked for")
                if _is_session_id(session.id) is None:
                    raise ClerkApiError("the answer holds a session id that cannot be used")
        return [session.id for session in sessions]

    async def revoke_session(self, session_id: str) -> bool:
        """End a session (``POST /v1/sessions/{session_id}/revoke``).

        Args:
            session_id: as it was listed.

        Returns:
            True when Clerk says that it is revoked now, False when it had ended in another way. Who revokes one that
            was revoked a moment before is told the same.

        Raises:
            ClerkApiError: no answer, or not a usable one; the session may have ended all the same.
        """
        try:
            async with self._turns:
                session = await self._revoke(session_id)
        except ClerkNotFoundError:
            return False
        return session.status is models.Status.REVOKED

    async def _revoke(self, session_id: str) -> models.Session:
        with self._counted("revoke"), _our_errors("a session"):
            session = await self._sessions.revoke_async(session_id=session_id)
            if session.id != session_id or session.status in _ALIVE:
                raise ClerkApiError("the answer does not say that the session has ended")
        return session

    async def is_alive(self, session_id: str) -> bool:
        """Say whether a session is active, or pending, which no list shows (``GET /v1/sessions/{session_id}``).

        Args:
            session_id: as a verified token names it.

        Raises:
            ClerkNotFoundError: Clerk has no such session.
            ClerkApiError: no answer, or not a usable one.
        """
        if _is_session_id(session_id) is None:
            raise ClerkNotFoundError("Clerk has no session with such an id")
        with self._counted("get"), _our_errors("a session"):
            session = await self._sessions.get_async(session_id=session_id)
        return session.status in _ALIVE

    @contextmanager
    def _counted(self, call: str) -> Iterator[None]:
        """Count one call by its result; one that is cancelled has failed."""
        result = "failed"
        try:
            yield
            result = "ok"
        except ClerkNotFoundError:
            result = "not_found"
            raise
        except ClerkRateLimitedError:
            result = "rate_limited"
            raise
        except ClerkRefusesKeyError:
            result = "refused"
            raise
        finally:
            self._requests[call, result].inc()


@contextmanager
def _our_errors(expected: str) -> Iterator[None]:
    """Turn what the SDK and its HTTP client raise into our errors, whose text quotes nobody.

    Args:
        expected: what the answer should be.
    """
    try:
        yield
    except models.ClerkBaseError as error:
        raise _status_error(error.status_code, error.headers, expected) from error
    except models.NoResponseError as error:
        raise ClerkApiError("no answer") from error
    except httpx.HTTPError as error:
        raise ClerkApiError(f"no connection ({type(error).__name__})") from error
    except ClerkApiError:
        raise
    except Exception as error:
        raise ClerkApiError(f"unexpectedly {where(error)}") from error


def _status_error(code: int, headers: Mapping[str, str], expected: str) -> ClerkApiError:
    if code in {401, 403}:
        return ClerkRefusesKeyError(f"Clerk does not accept CLERK_SECRET_KEY (status {code})")
    if code == httpx.codes.NOT_FOUND:
        return ClerkNotFoundError(f"Clerk answered with status {code}")
    if code == httpx.codes.TOO_MANY_REQUESTS:
        return ClerkRateLimitedError(f"Clerk answered with status {code}", _retry_after(headers))
    if code == httpx.codes.OK:
        return ClerkApiError(f"the answer is not {expected}")
    return ClerkApiError(f"Clerk answered with status {code}")


def _retry_after(headers: Mapping[str, str]) -> int:
    """Seconds from ``Retry-After`` (RFC 9110, 10.2.3; Clerk sends seconds), from 1 to 3600; 10 where it is odd."""
    text = headers.get("retry-after", "")
    if not text.isascii() or not text.isdecimal() or len(text) > 9:  # noqa: PLR2004 - longer ones are no seconds
        return RETRY_AFTER
    return min(max(int(text), 1), MAX_RETRY_AFTER)


class _BoundedStream(httpx.AsyncByteStream):
    """The body of a response, up to a bound."""

    def __init__(self, stream: httpx.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._stream:
            size += len(chunk)
            if size > MAX_RESPONSE_BYTES:
                raise ClerkApiError(f"the answer is larger than {MAX_RESPONSE_BYTES} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _bound(response: httpx.Response) -> None:
    """Bound what will be read of a response; what is compressed cannot be bounded before it is unpacked."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise ClerkApiError("the answer is compressed, which was not asked for")
    assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101 - an async client's always is
    response.stream = _BoundedStream(response.stream)
    # Read here, because what the SDK makes of an answer cannot be interrupted.
    if (await response.aread()).count(b"{") > MAX_OBJECTS:
        raise ClerkApiError(f"the answer holds more than {MAX_OBJECTS} objects")


def _client(url: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        timeout=REQUEST_TIMEOUT,
        # Proxies of the environment are for the way out, not for a stand-in on this machine.
        trust_env=url.startswith("https://"),
        headers={"accept-encoding": "identity"},
        # All may be kept for the next request; the default of 20 would have busy ones closed and opened again.
        limits=httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS),
        event_hooks={"response": [_bound]},
    )


def client_problem(url: str) -> str | None:
    """Say in one line why no client can be made, or give None: the environment may name an unusable proxy."""
    try:
        _client(url)
    except (ImportError, ValueError, OSError, httpx.InvalidURL) as error:
        return f"no client can be made ({type(error).__name__}); look at HTTPS_PROXY, ALL_PROXY and SSL_CERT_FILE"
    return None


@asynccontextmanager
async def backend_api(url: str, secret_key: str, metrics: Metrics | None = None) -> AsyncIterator[BackendApi]:
    """Open the Backend API.

    Args:
        url: ``https://host`` without a path.
        secret_key: sent as the bearer of each call.
        metrics: counts the calls about sessions.
    """
    async with _client(url) as client:
        with httpx.Client(trust_env=False) as unused:  # the SDK would make one with settings of its own
            yield BackendApi(
                Clerk(
                    bearer_auth=secret_key,
                    server_url=f"{url}/v1",
                    client=unused,
                    async_client=client,
                    retry_config=_NO_RETRIES,
                    timeout_ms=int(REQUEST_TIMEOUT * 1000),
                ),
                metrics,
            )

"""Clerk's Backend API through Clerk's SDK. Nothing outside this package imports the SDK.

The SDK's defaults retry a failing call for up to an hour, so each client here gets a timeout and "no retries" of ours.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
from clerk_backend_api import Clerk, models
from clerk_backend_api.utils import BackoffStrategy, RetryConfig

from service.clerk.errors import ClerkApiError

MAX_RESPONSE_BYTES = 1 << 20
REQUEST_TIMEOUT = 2.0
"""Seconds without progress after which a request is given up; whoever calls sets the deadline for the whole."""

_NO_RETRIES = RetryConfig("none", BackoffStrategy(0, 0, 1.0, 0), retry_connection_errors=False)


class BackendApi:
    """The calls that the service makes."""

    def __init__(self, sdk: Clerk) -> None:
        self._sdk = sdk

    async def jwks(self) -> list[Mapping[str, Any]]:
        """Fetch the instance's JWKS (``GET /v1/jwks``).

        Returns:
            The keys as JWK dictionaries.

        Raises:
            ClerkApiError: no answer, or not a usable one.
        """
        try:
            jwks = await self._sdk.jwks.get_jwks_async()
        except models.ResponseValidationError as error:
            raise ClerkApiError("the answer is not a JWKS") from error
        except models.ClerkBaseError as error:
            raise ClerkApiError(_status(error.status_code)) from error
        except httpx.HTTPError as error:
            raise ClerkApiError(f"no connection ({type(error).__name__})") from error
        return [key.model_dump() for key in jwks.keys or ()]


def _status(code: int) -> str:
    if code in {401, 403}:
        return f"Clerk does not accept CLERK_SECRET_KEY (status {code})"
    return f"Clerk answered with status {code}"


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


def _client(url: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        timeout=REQUEST_TIMEOUT,
        # Proxies of the environment are for the way out, not for a stand-in on this machine.
        trust_env=url.startswith("https://"),
        headers={"accept-encoding": "identity"},
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
async def backend_api(url: str, secret_key: str) -> AsyncIterator[BackendApi]:
    """Open the Backend API.

    Args:
        url: ``https://host`` without a path.
        secret_key: sent as the bearer of each call.
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
                )
            )

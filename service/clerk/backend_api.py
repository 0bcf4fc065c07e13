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


@asynccontextmanager
async def backend_api(url: str, secret_key: str) -> AsyncIterator[BackendApi]:
    """Open the Backend API.

    Args:
        url: ``https://host`` without a path.
        secret_key: sent as the bearer of each call.
    """
    async with httpx.AsyncClient(timeout=REQUEST_TIMEOUT) as client:
        with httpx.Client() as unused:  # the SDK would make one with settings of its own
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

"""What can go wrong between us and Clerk.

    ClerkError
    ├── ClerkApiError              a call to Clerk's Backend API failed
    │   ├── ClerkNotFoundError         404
    │   ├── ClerkRateLimitedError      429
    │   └── ClerkKeyRejectedError      401 or 403
    ├── KeyUnknownError            the instance has no key with this id
    ├── KeysUnavailableError       whether it has could not be found out in time
    └── WebhookRefusedError        a webhook is not from Clerk, or cannot be used

Each error's text is one line that quotes neither Clerk nor a caller.
"""

from typing import ClassVar


class ClerkError(Exception):
    """Base of all of these."""


class ClerkApiError(ClerkError):
    """A call to Clerk's Backend API failed."""

    result: ClassVar[str] = "failed"
    """How ``clerk_logout_clerk_requests_total`` counts it."""


class ClerkNotFoundError(ClerkApiError):
    """Clerk has no such thing (404)."""

    result = "not_found"


class ClerkRateLimitedError(ClerkApiError):
    """Too many calls (429). ``retry_after`` is in seconds, at least 1."""

    result = "rate_limited"

    def __init__(self, text: str, retry_after: int) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class ClerkKeyRejectedError(ClerkApiError):
    """Clerk does not accept the secret key (401, 403)."""

    result = "refused"


class KeyUnknownError(ClerkError):
    """The instance has no key with this id."""


class KeysUnavailableError(ClerkError):
    """Whether the instance has a key with this id could not be found out in time."""


class WebhookRefusedError(ClerkError):
    """A webhook is not from Clerk, or cannot be used. The text is for whoever configured it."""

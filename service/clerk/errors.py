"""What can go wrong between us and Clerk. Each error's text is one line that quotes neither Clerk nor a caller.

ClerkApiError              a call to Clerk's Backend API failed
├── ClerkNotFoundError         404
├── ClerkRateLimitedError      429
└── ClerkKeyRejectedError      401 or 403
"""

from typing import ClassVar


class ClerkApiError(Exception):
    """A call failed. ``result`` is how ``clerk_logout_clerk_requests_total`` counts it."""

    result: ClassVar[str] = "failed"


class ClerkNotFoundError(ClerkApiError):
    """Clerk has no such thing."""

    result = "not_found"


class ClerkRateLimitedError(ClerkApiError):
    """Too many calls. ``retry_after`` is in seconds, at least 1; None if Clerk does not say."""

    result = "rate_limited"

    def __init__(self, text: str, retry_after: int | None) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class ClerkKeyRejectedError(ClerkApiError):
    """Clerk does not accept the secret key."""

    result = "refused"

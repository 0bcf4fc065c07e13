"""What can go wrong between us and Clerk.

    ClerkError
    ├── ClerkApiError          a call to Clerk's Backend API failed
    │   ├── ClerkNotFoundError     Clerk has no such thing
    │   ├── ClerkRateLimitedError  too many calls; says when the next may come
    │   └── ClerkRefusesKeyError   Clerk does not accept the secret key
    ├── KeyUnknownError        the instance has no key of this id
    ├── KeysUnavailableError   whether it has could not be found out in time
    └── WebhookRefusedError    a webhook is not Clerk's, or says nothing that could be recorded

The text of each is one line that holds nothing Clerk or a caller sent.
"""


class ClerkError(Exception):
    """Anything below."""


class ClerkApiError(ClerkError):
    """Clerk's Backend API did not do what was asked."""


class ClerkNotFoundError(ClerkApiError):
    """Clerk has no such thing (404)."""


class ClerkRateLimitedError(ClerkApiError):
    """Too many calls (429).

    Attributes:
        retry_after: seconds after which the next may come, at least 1.
    """

    def __init__(self, text: str, retry_after: int) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class ClerkRefusesKeyError(ClerkApiError):
    """Clerk does not accept the secret key (401, 403)."""


class KeyUnknownError(ClerkError):
    """The instance has no key of this id."""


class KeysUnavailableError(ClerkError):
    """Whether the instance has a key of this id could not be found out in time."""


class WebhookRefusedError(ClerkError):
    """A webhook is not Clerk's, or does not say what it must. The text is meant for who set it up."""

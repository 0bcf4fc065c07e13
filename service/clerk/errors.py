"""What can go wrong between us and Clerk.

    ClerkError
    ├── ClerkApiError          a call to Clerk's Backend API failed
    ├── KeyUnknownError        the instance has no key of this id
    └── KeysUnavailableError   whether it has could not be found out in time

The text of each is one line that holds nothing Clerk or a caller sent.
"""


class ClerkError(Exception):
    """Anything below."""


class ClerkApiError(ClerkError):
    """Clerk's Backend API did not do what was asked."""


class KeyUnknownError(ClerkError):
    """The instance has no key of this id."""


class KeysUnavailableError(ClerkError):
    """Whether the instance has a key of this id could not be found out in time."""

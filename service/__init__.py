"""The sign-out recorder for applications that use Clerk."""

__version__ = "0.2.0"

"""The sign-out recorder for applications that use Clerk."""

__version__ = "0.1.0"

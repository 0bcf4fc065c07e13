"""Lets in only requests whose session token counts: verified, and its session not signed out.

``SessionGuard`` protects a whole Starlette or FastAPI application, ``SessionBackend`` one whose visitors may also be
anonymous. Both ask a ``SessionCheck``.
"""

from service.guard.backend import SessionBackend
from service.guard.middleware import SessionGuard

__all__ = ["SessionBackend", "SessionGuard"]

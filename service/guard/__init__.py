"""Lets in only requests whose session counts: ``SessionGuard`` for whole applications, ``SessionBackend`` for parts."""

from service.guard.backend import SessionBackend
from service.guard.middleware import SessionGuard

__all__ = ["SessionBackend", "SessionGuard"]

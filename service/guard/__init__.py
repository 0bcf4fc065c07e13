"""Lets in only requests whose session counts: ``SessionGuard`` for whole applications, ``SessionBackend`` for parts."""

from service.guard.middleware import SessionBackend, SessionGuard

__all__ = ["SessionBackend", "SessionGuard"]

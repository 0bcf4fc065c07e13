"""What the tests of several endpoints put in the place of the service's own parts."""

import logging
from collections.abc import Sequence
from typing import Any

import pytest

from service.events.types import Event
from service.revocations.revocation_list import MemoryStore, RevocationList


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


class Noting(MemoryStore):
    """A recorder and a store that note what is done, in which order, and do what they are told."""

    def __init__(self, outcome: bool | Exception = True, store_error: Exception | None = None) -> None:  # noqa: FBT002
        super().__init__()
        self.done: list[str | set[str]] = []
        """Names of events, and the sessions that were revoked."""
        self.at = self.seconds = 0.0
        self._outcome, self._store_error = outcome, store_error

    async def record(self, event: Event) -> bool:
        self.done.append(event.name)
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome

    async def add(self, session_ids: Sequence[str], *, at: float, seconds: float) -> None:
        self.done.append(set(session_ids))
        self.at, self.seconds = at, seconds
        if self._store_error is not None:
            raise self._store_error

    def parts(self) -> dict[str, Any]:
        """For ``open_client(resources=...)``."""
        return {"recorder": self, "revocations": RevocationList(self)}


def assert_said(caplog: pytest.LogCaptureFixture, said: str | None) -> None:
    """One error was logged, or none, and nothing of the exception behind it but its name."""
    errors = [record.message for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == (said is not None)
    assert all(f"{said}: ValueError in parts.py:" in message for message in errors)
    assert "secret" not in caplog.text


SECRET_ERROR = ValueError("eyJ.secret")

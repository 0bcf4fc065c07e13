"""What the guard stands on, as tests put it together: real tokens, a real list, and a count of what was asked."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from service.clerk.keys import PemKey
from service.clerk.verdict import Verdict
from service.clerk.verifier import Verifier
from service.events.recorder import Recorder
from service.events.request import RequestHead, read_head
from service.events.types import Event, Facts, SessionUsedAfterLogout
from service.revocations.revocation_list import MemoryStore, RevocationList, RevocationsUnavailableError
from service.sessions.check import SessionCheck
from service.telemetry.metrics import Metrics
from tests.support.signing import ORIGIN, claims, pem, token

USER, SESSION = "user_2xyzUVW", "sess_2abcDEF"
OTHER = "sess_2another"


def of_session(session_id: str = SESSION, **changes: Any) -> str:
    return token(claims(sid=session_id, **changes))


def expired() -> str:
    return token(claims(now=time.time() - 3600))


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def cookies(*tokens: str) -> dict[str, str]:
    return {"Cookie": "; ".join(f"__session_{number}={token}" for number, token in enumerate(tokens))}


def scope(headers: Mapping[str, str] | None = None, **changes: Any) -> dict[str, Any]:
    """An ASGI scope of a request with these headers."""
    raw = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
    request = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "client": None, "headers": raw}
    return request | changes


class FakeRecorder(Recorder):
    """Keeps the events, or fails."""

    def __init__(self, problem: Exception | None = None) -> None:
        self.events: list[SessionUsedAfterLogout] = []
        self._problem = problem

    async def record(self, event: Event) -> bool:
        if self._problem is not None:
            raise self._problem
        assert isinstance(event, SessionUsedAfterLogout)
        self.events.append(event)
        return True


class Store(MemoryStore):
    """The memory store, until it is out of reach."""

    out_of_reach = False
    takes = 0.0
    """Seconds for each answer."""

    def __init__(self) -> None:
        super().__init__()
        self.within: list[float] = []
        """Seconds that each question was given."""

    async def find(self, session_id: str, *, within: float | None = None) -> float | None:
        await self._take_time(within)
        if self.out_of_reach:
            raise RevocationsUnavailableError("out of reach")
        return await super().find(session_id)

    async def claim(self, session_id: str, *, seconds: int, within: float | None = None) -> bool:
        await self._take_time(within)
        return await super().claim(session_id, seconds=seconds)

    async def _take_time(self, within: float | None) -> None:
        assert within is not None
        self.within.append(within)
        await asyncio.sleep(min(self.takes, within))


class CountingVerifier(Verifier):
    """Counts how often it is really verified."""

    verifications = 0

    async def verify_one(self, token: bytes, deadline: float) -> Verdict:
        self.verifications += 1
        return await super().verify_one(token, deadline)


def facts(head: RequestHead) -> Facts:
    return {"request_id": head.request_id, "trace_id": None, "origin": None}


class Parts:
    """A session check with everything that it stands on within reach."""

    def __init__(
        self, recorder: FakeRecorder | None = None, store: Store | None = None, verifier: Verifier | None = None
    ) -> None:
        self.store = store or Store()
        self.metrics = Metrics()
        self.revocations = RevocationList(self.store)
        self.recorder = recorder or FakeRecorder()
        self.verifier = CountingVerifier(PemKey(pem()), authorized_parties=[ORIGIN])
        who = verifier or self.verifier
        self.check = SessionCheck(who, self.revocations, self.recorder, facts, metrics=self.metrics)

    async def outcome(self, headers: Mapping[str, str] | None = None, *, allow_pending: bool = False) -> Any:
        return await self.check(read_head(scope(headers)), allow_pending=allow_pending)

    def counted(self) -> dict[str, float]:
        """The decisions, by their results."""
        (family,) = self.metrics.session_checks.collect()
        return {sample.labels["result"]: sample.value for sample in family.samples if sample.name.endswith("_total")}

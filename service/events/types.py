"""The events, as values. What each key means stands in docs/events.md; ``schemas/`` holds the lines to it."""

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import ClassVar, NotRequired, Protocol, TypedDict

import uuid_utils

SCHEMA_VERSION = 1

_FIRST, _LAST = -62_135_596_800, 253_402_300_799
"""Seconds since 1970 of the first and the last second that RFC 3339 can write."""


class Who(Protocol):
    """Whose session an event is about."""

    @property
    def user_id(self) -> str: ...  # noqa: D102 - as the keys of a line
    @property
    def session_id(self) -> str: ...  # noqa: D102
    @property
    def org_id(self) -> str | None: ...  # noqa: D102
    @property
    def actor_id(self) -> str | None: ...  # noqa: D102
    @property
    def initiated_by(self) -> str | None: ...  # noqa: D102


class Facts(TypedDict):
    """What the request and its token tell an event beside whose it is, as keys of the line."""

    request_id: str | None
    trace_id: str | None
    origin: str | None
    client_ip: NotRequired[str]
    user_agent: NotRequired[str]
    authorized_party: NotRequired[str | None]
    token_issued_at: NotRequired[str | None]


def new_event_id() -> str:
    """Give a UUIDv7 (RFC 9562, section 5.7): unique, and in the order of time within a process."""
    return str(uuid_utils.uuid7())


def now() -> str:
    """Give the time as ``timestamp_of`` does."""
    second, microsecond = divmod(time.time_ns() // 1000, 1_000_000)
    return f"{_text_of(second)}.{microsecond:06}Z"


def timestamp_of(seconds: float) -> str:
    """Give a time in seconds since 1970 as RFC 3339 in UTC with microseconds and ``Z``.

    Of a time before the year 1 or after 9999 the nearest that can be written.
    """
    second, microsecond = divmod(round(min(max(seconds, _FIRST), _LAST) * 1_000_000), 1_000_000)
    return f"{_text_of(second)}.{microsecond:06}Z"


@lru_cache(128)
def _text_of(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat()[:19]


@dataclass(slots=True, kw_only=True, eq=False)
class Event:
    """What all events have in common, and what can be recorded.

    Attributes:
        name: the value of the line's ``event``.
        who: whose session it was; None where nobody is proven.
        facts: those of the request; they come last in the line.
    """

    name: ClassVar[str]
    source: ClassVar[str] = "frontend"

    event_id: str
    timestamp: str
    auth: str | None = "verified"
    reason: str | None = None
    who: Who | None
    facts: Facts

    def fields(self) -> dict[str, object]:
        """Give the line's keys in its order, those about nobody as None; JSON values only, every string bounded.

        Returns:
            A new dict each time: the recorder adds to it which service wrote the line.
        """
        user_id = session_id = org_id = actor_id = initiated_by = None
        dedupe_key = self.event_id
        if self.who is not None:
            who = self.who
            user_id, session_id, org_id, actor_id = who.user_id, who.session_id, who.org_id, who.actor_id
            initiated_by = who.initiated_by
            dedupe_key = f"{self.name}:{session_id}"
        return {
            "event": self.name,
            "schema_version": SCHEMA_VERSION,
            "event_id": self.event_id,
            "dedupe_key": dedupe_key,
            "timestamp": self.timestamp,
            "auth": self.auth,
            "reason": self.reason,
            "user_id": user_id,
            "session_id": session_id,
            "org_id": org_id,
            "actor_id": actor_id,
            "initiated_by": initiated_by,
            "source": self.source,
            **self.facts,
        }


@dataclass(slots=True, kw_only=True, eq=False)
class UserLogout(Event):
    """Somebody called the logout endpoint."""

    name: ClassVar[str] = "user_logout"


@dataclass(slots=True, kw_only=True, eq=False)
class _DetailedEvent(Event):
    """An event with keys of its own: what a subclass declares comes last in the line."""

    def fields(self) -> dict[str, object]:
        """Give the line's keys."""
        return {**Event.fields(self), **{key: getattr(self, key) for key in self.__slots__}}


@dataclass(slots=True, kw_only=True, eq=False)
class UserLogoutEverywhere(_DetailedEvent):
    """Somebody ended all sessions of theirs, or all others. Each call is an act of its own."""

    name: ClassVar[str] = "user_logout_everywhere"

    scope: str
    revoked_sessions: int
    failed_sessions: int

    def fields(self) -> dict[str, object]:
        """Give the line's keys."""
        return {**_DetailedEvent.fields(self), "dedupe_key": self.event_id}


@dataclass(slots=True, kw_only=True, eq=False)
class SessionEnded(_DetailedEvent):
    """Clerk says that a session has ended."""

    name: ClassVar[str] = "session_ended"
    source: ClassVar[str] = "clerk_webhook"

    cause: str
    ended_at: str


@dataclass(slots=True, kw_only=True, eq=False)
class SessionUsedAfterLogout(_DetailedEvent):
    """A token of a signed-out session came to the guard. Who holds it, nobody knows."""

    name: ClassVar[str] = "session_used_after_logout"

    logged_out_at: str
    token_issued_at: str
    issued_after_logout: bool

    def fields(self) -> dict[str, object]:
        """Give the line's keys."""
        return {**_DetailedEvent.fields(self), "initiated_by": None}


@dataclass(slots=True, kw_only=True, eq=False)
class UserLogoutSuppressed(_DetailedEvent):
    """Flood control counted calls to the logout endpoint instead of recording each. Nobody is known in it."""

    name: ClassVar[str] = "user_logout_suppressed"

    auth: str | None = None
    who: Who | None = None
    facts: Facts = field(default_factory=lambda: Facts(request_id=None, trace_id=None, origin=None))
    count: int
    window_start: str
    window_end: str

"""Event files made from a seeded plan, with the figures that a report has to find in them.

The figures are counted while the plan is made, session by session; nothing is derived from the lines.
"""

import json
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5
from zoneinfo import ZoneInfo

ORIGINS = ("https://app.example.com", "https://shop.example.com", "https://admin.example.com")
START = datetime(2026, 11, 16, tzinfo=UTC)
DAYS = 7
NONE = timedelta()
BAD_LINES = (
    '{"event":"user_logout","schema_version":1,"event_id":"0',
    "\0" * 60,
    "[]",
    "null",
    '{"event":"user_logout"}',
    '{"event_id":"","timestamp":"2026-11-16T00:00:00.000000Z"}',
    '{"event_id":"x","timestamp":"2026-11-16 00:00:00"}',
    '{"event_id":"x","timestamp":"2026-02-30T00:00:00.000000Z"}',
)


def timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass
class Session:
    """One logout of the plan, as it really was."""

    user_id: str
    told_by: str
    initiated_by: str | None
    actor_id: str | None
    called_at: datetime | None = None
    ended_at: datetime | None = None
    verdict: str | None = None
    cause: str | None = None
    origin: str | None = None

    @property
    def logged_out_at(self) -> datetime:
        return min(moment for moment in (self.called_at, self.ended_at) if moment)


@dataclass
class Plan:
    """Lines, and what is true of them."""

    seed: int
    sessions: list[Session] = field(default_factory=list)
    lines: list[tuple[datetime, str]] = field(default_factory=list)
    repeated: int = 0
    bad: int = 0
    calls: Counter[tuple[str, str | None]] = field(default_factory=Counter)
    suppressed: Counter[str] = field(default_factory=Counter)
    everywhere: Counter[str] = field(default_factory=Counter)
    revoked: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    used: list[tuple[str, bool]] = field(default_factory=list)
    ages: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self._number = 0

    def id(self, prefix: str) -> str:
        self._number += 1
        return f"{prefix}_{UUID(int=self.random.getrandbits(128)).hex[:20]}{self._number:07d}"

    def write(self, event: str, moment: datetime, copies: int = 0, late: timedelta = NONE, **keys: Any) -> None:
        """Write one event, and copies of it: the same line, or a later delivery of the same webhook."""
        millisecond = int(moment.timestamp() * 1000)
        random_part = self.random.getrandbits(74)
        bits = millisecond << 80 | 7 << 76 | random_part >> 62 << 64 | 2 << 62 | random_part & (1 << 62) - 1
        event_id = str(UUID(int=bits))
        if event == "session_ended":
            event_id = str(uuid5(UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8"), event_id))
        everywhere, suppressed = event == "user_logout_everywhere", event == "user_logout_suppressed"
        issued = {"authorized_party": None, "token_issued_at": timestamp(moment) if everywhere else None}
        of_session = keys.get("session_id") and not everywhere
        line: dict[str, Any] = {
            "event": event,
            "schema_version": 1,
            "event_id": event_id,
            "dedupe_key": f"{event}:{keys['session_id']}" if of_session else event_id,
            "timestamp": timestamp(moment),
            "auth": "verified",
            **dict.fromkeys(["reason", "user_id", "session_id", "org_id", "actor_id", "initiated_by"]),
            "source": "clerk_webhook" if event == "session_ended" else "frontend",
            "request_id": None if suppressed else f"req-{self._number}",
            **dict.fromkeys(["trace_id", "origin"]),
            **(issued if everywhere or event == "user_logout" else {}),
            **keys,
            "service": "clerk-logout",
            "service_version": "0.1.0",
        }
        for copy in range(copies + 1):
            written = moment + copy * late
            self.lines.append((written, json.dumps(line | {"timestamp": timestamp(written)}, separators=(",", ":"))))
        self.events[event] += 1
        self.repeated += copies

    def moment(self) -> datetime:
        """Some moment of the plan's days, more often by day than by night."""
        hour = 23.9999 if self.random.random() < 0.01 else self.random.triangular(0, 24, 15)
        return START + timedelta(
            days=self.random.randrange(DAYS), hours=hour, microseconds=self.random.randrange(10**6)
        )

    def call(self, session: Session, session_id: str, moment: datetime, auth: str, **keys: Any) -> None:
        age = timedelta(seconds=self.random.choice([70, 900, 9_000, 90_000, 5_000_000] if auth == "expired" else [20]))
        reason = "token-expired" if auth == "expired" else None
        copies = 1 if self.random.random() < 0.02 else 0
        identity = {"user_id": session.user_id, "session_id": session_id, "actor_id": session.actor_id}
        told = {"authorized_party": session.origin, "token_issued_at": timestamp(moment - age)}
        shared = identity | told | {"initiated_by": session.initiated_by, "origin": session.origin, "reason": reason}
        event = "user_logout_everywhere" if keys else "user_logout"
        self.write(event, moment, copies=copies, auth=auth, **(shared | keys))
        if not keys:
            self.calls[auth, reason] += 1
        if auth == "expired":
            bounds = {300: "under 5 min", 3600: "5 min to 1 h", 86400: "1 h to 1 day", 2592000: "1 day to 30 days"}
            seconds = age.total_seconds()
            self.ages[next((name for bound, name in bounds.items() if seconds < bound), "30 days or more")] += 1

    def session(
        self, told_by: str, *, verdict: str = "verified", cause: str = "removed", everywhere: bool = False
    ) -> str:
        """One logout, told of by a call, by Clerk's webhook, or by both."""
        session_id, user_id = self.id("sess"), f"user_{self.random.randrange(4_000):027d}"
        origin = self.random.choices([*ORIGINS, None], [60, 30, 8, 2])[0]
        who = self.random.choices(["user", "admin", "agent"], [970, 20, 10])[0]
        session = Session(user_id, told_by, who, None if who == "user" else f"user_{who}")
        at = self.moment()
        if told_by != "webhook":
            session.called_at, session.origin = at, origin
            session.verdict = "verified" if everywhere else verdict
            if everywhere:
                self.call(session, session_id, at, "verified", scope="all", revoked_sessions=3, failed_sessions=0)
                self.everywhere["all"] += 1
                self.revoked["all"] += 3
            else:
                self.call(session, session_id, at, verdict)
            if self.random.random() < 0.05:  # a second call, never better than the first
                self.call(session, session_id, at + timedelta(seconds=self.random.randrange(1, 40)), "expired")
        if told_by != "call":
            # Clerk is mostly later than the call, sometimes earlier, and says it late or twice.
            apart = timedelta(milliseconds=self.random.choice([-1500, 200, 350, 420, 2_000, 9_000, 200_000]))
            session.ended_at, session.cause = at + apart, cause
            if told_by == "webhook" and cause == "revoked" and who == "user":
                session.initiated_by = None
            by = None if cause == "revoked" and who == "user" else who
            self.write(
                "session_ended",
                session.ended_at + timedelta(milliseconds=self.random.choice([150, 300, 90_000])),
                copies=1 if self.random.random() < 0.03 else 0,
                late=timedelta(days=1),
                user_id=user_id,
                session_id=session_id,
                actor_id=session.actor_id,
                initiated_by=by,
                cause=cause,
                ended_at=timestamp(session.ended_at),
            )
        self.sessions.append(session)
        return session_id

    def nobody(self, auth: str, reason: str) -> None:
        """A call that proves nobody."""
        self.write("user_logout", self.moment(), copies=0, auth=auth, reason=reason, origin=ORIGINS[0])
        self.calls[auth, reason] += 1

    def flood(self, count: int) -> None:
        at = self.moment()
        start, end = timestamp(at - timedelta(seconds=10)), timestamp(at)
        copies = self.random.randrange(2)
        self.write(
            "user_logout_suppressed", at, copies=copies, auth=None, count=count, window_start=start, window_end=end
        )
        self.suppressed[at.date().isoformat()] += count

    def sign_out_others(self, others: int) -> None:
        """The session that asks stays; the others end, and only Clerk tells which."""
        session_id, at = self.id("sess"), self.moment()
        who: dict[str, Any] = {
            "user_id": "user_cleaner",
            "session_id": session_id,
            "initiated_by": "user",
            "origin": ORIGINS[0],
        }
        told: dict[str, Any] = {"scope": "others", "revoked_sessions": others, "failed_sessions": 1}
        self.write("user_logout_everywhere", at, **(who | told))
        self.everywhere["others"] += 1
        self.revoked["others"] += others
        for _ in range(others):
            self.session("webhook", cause="revoked")

    def use_after_logout(self, *, never_ended: bool) -> None:
        at = self.moment()
        session_id = self.id("sess")
        times: dict[str, Any] = {
            "logged_out_at": timestamp(at - timedelta(seconds=60)),
            "token_issued_at": timestamp(at),
        }
        keys: dict[str, Any] = {"user_id": "user_late", "session_id": session_id, "issued_after_logout": never_ended}
        self.write("session_used_after_logout", at, copies=1, **(keys | times))
        self.used.append((session_id, never_ended))

    def damage(self, count: int) -> None:
        for number in range(count):
            self.lines.append((self.moment(), BAD_LINES[number % len(BAD_LINES)]))
        self.bad += count

    def text(self) -> str:
        """All lines, in the order in which they were written."""
        return "".join(line + "\n" for _, line in sorted(self.lines, key=lambda each: each[0]))

    def told(self) -> Counter[str]:
        return Counter(session.told_by for session in self.sessions)

    def days(self, timezone: str = "UTC") -> dict[str, Counter[str]]:
        """By day: logouts by who told of them, and how many people they are of."""
        zone = ZoneInfo(timezone)
        days: dict[str, Counter[str]] = {}
        people = set()
        for session in self.sessions:
            day = session.logged_out_at.astimezone(zone).date().isoformat()
            days.setdefault(day, Counter())[session.told_by] += 1
            people.add((day, session.user_id))
        for day, _ in people:
            days[day]["people"] += 1
        return days


def make_plan(seed: int, size: int) -> Plan:
    """A plan of about ``size`` events: 85 % of the logouts told of by both, 5 % by a call, 10 % by a webhook."""
    plan = Plan(seed)
    unit = size // 200
    for number in range(100 * unit):
        told_by = "both" if number % 20 < 17 else "call" if number % 20 == 17 else "webhook"
        cause = ("ended", "revoked")[number % 2] if number % 25 == 0 else "removed"
        verdict = "expired" if number % 13 == 0 and told_by != "webhook" else "verified"
        everywhere = number % 90 == 7 and told_by != "webhook"
        plan.session(told_by, verdict=verdict, cause=cause, everywhere=everywhere)
    for _ in range(unit):
        plan.nobody("absent", "session-token-missing")
        plan.nobody("rejected", plan.random.choice(["token-invalid-signature", "token-invalid", "jwk-kid-mismatch"]))
    plan.nobody("unverifiable", "jwk-failed-to-load")
    for _ in range(max(unit // 4, 2)):
        plan.flood(plan.random.randrange(1, 5_000))
        plan.sign_out_others(plan.random.randrange(1, 5))
        plan.use_after_logout(never_ended=plan.random.random() < 0.3)
    plan.damage(max(unit // 10, len(BAD_LINES)))
    return plan

"""Events to convert, and what is expected of each: ``golden/STANDARD.json`` has it by the example's name."""

import json
from pathlib import Path
from typing import Any

from tests.events.test_schemas import ABSENT, EVENTS, EVERYTHING, VERIFIED, emitted

_EXPIRED = VERIFIED | {"auth": "expired", "reason": "token-expired"}

EXAMPLES: dict[str, dict[str, Any]] = {
    **{name: emitted(name, EVERYTHING) for name in EVENTS},
    "user_logout, by the user": emitted("user_logout", VERIFIED),
    "user_logout, expired": emitted("user_logout", _EXPIRED),
    "user_logout, rejected": emitted("user_logout", ABSENT | {"auth": "rejected", "reason": "token-invalid"}),
    "user_logout, absent": emitted("user_logout", ABSENT),
    "user_logout, by an agent": emitted("user_logout", EVERYTHING) | {"initiated_by": "agent"},
    "user_logout, of a later version": emitted("user_logout", VERIFIED) | {"authorized_party": "https://x", "later": 1},
    "session_ended, revoked": emitted("session_ended", VERIFIED) | {"cause": "revoked", "initiated_by": None},
    "user_logout_everywhere, in part": emitted("user_logout_everywhere", VERIFIED) | {"failed_sessions": 1},
}


def golden(standard: str) -> dict[str, Any]:
    """What is expected, None where the example is skipped."""
    found: dict[str, Any] = json.loads(Path(f"tests/convert/golden/{standard}.json").read_text("utf-8"))
    return found

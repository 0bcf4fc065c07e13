"""Events as tests write them down: by the keys of their lines."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Someone(NamedTuple):
    """Whose session an event is about."""

    user_id: str
    session_id: str
    org_id: str | None = None
    actor_id: str | None = None
    initiated_by: str | None = "user"


def told(keys: Mapping[str, Any]) -> dict[str, Any]:
    """Give what an event about a session is made of, from keys of its line."""
    who = {name: keys[name] for name in Someone._fields if name in keys}
    if "actor_id" in keys:
        who = {"initiated_by": "admin"} | who
    names = ["request_id", "trace_id", "origin", "client_ip", "user_agent"]
    if "authorized_party" in keys:
        names += ["authorized_party", "token_issued_at"]
    facts = {"trace_id": None, "origin": None} | {name: keys[name] for name in names if name in keys}
    # As a request tells them: in the order of the line.
    facts = {name: facts[name] for name in names if name in facts}
    rest = {name: value for name, value in keys.items() if name not in {*who, *facts}}
    return rest | {"who": Someone(**who) if who else None, "facts": facts}

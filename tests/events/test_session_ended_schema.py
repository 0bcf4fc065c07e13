"""The schema of ``session_ended`` describes what is emitted, all of it, and refuses what never is."""

import uuid
from typing import Any

import orjson
import pytest

from service.events.schemas import schemas
from service.events.types import SessionEnded
from tests.events.test_schemas import is_valid, line_of
from tests.support.events import told

SCHEMA = schemas()["session_ended"]
ENDED: dict[str, Any] = {
    "event_id": str(uuid.uuid5(uuid.NAMESPACE_URL, "msg_1")),
    "timestamp": "2026-11-21T09:44:18.123456Z",
    "user_id": "user_2xyzUVW",
    "session_id": "sess_2abcDEF",
    "request_id": "r",
    "cause": "removed",
    "ended_at": "2026-11-21T09:44:17.123000Z",
}
REVOKED = ENDED | {"cause": "revoked"}
IMPERSONATED = ENDED | {"actor_id": "user_2support"}
OPTIONAL = ["client_ip", "user_agent"]
EVERYTHING = IMPERSONATED | {
    "org_id": "org_2abc",
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    "client_ip": "203.0.113.0",
    "user_agent": "curl/8",
}


def emitted(values: dict[str, Any]) -> dict[str, Any]:
    event: dict[str, Any] = orjson.loads(line_of(SessionEnded(**told(values))))
    return event


def test_the_schema_describes_exactly_the_keys_that_are_emitted_in_their_order() -> None:
    assert list(SCHEMA["properties"]) == list(emitted(EVERYTHING))


def test_the_schema_requires_exactly_the_keys_that_are_always_emitted() -> None:
    assert SCHEMA["required"] == list(emitted(ENDED))
    assert [key for key in SCHEMA["properties"] if key not in SCHEMA["required"]] == OPTIONAL


@pytest.mark.parametrize("cause", ["ended", "removed", "revoked"])
@pytest.mark.parametrize("values", [ENDED, IMPERSONATED, EVERYTHING], ids=["least", "impersonated", "everything"])
def test_a_line_as_it_is_emitted_is_valid(values: dict[str, Any], cause: str) -> None:
    assert is_valid(emitted(values | {"cause": cause}), SCHEMA)


def test_a_key_that_a_later_version_adds_is_allowed() -> None:
    assert is_valid(emitted(ENDED) | {"country": "AT"}, SCHEMA)


@pytest.mark.parametrize(
    "key", ["timestamp", "schema_version", "request_id", "trace_id", "service", "service_version", "client_ip"]
)
def test_what_it_shares_with_a_logout_is_described_alike(key: str) -> None:
    rules = [
        {name: rule for name, rule in schemas()[event]["properties"][key].items() if name != "description"}
        for event in ("session_ended", "user_logout")
    ]
    assert rules[0] == rules[1]


@pytest.mark.parametrize(
    ("values", "change"),
    [
        pytest.param(ENDED, {"event_id": "01990000-0000-7000-8000-000000000000"}, id="a UUIDv7"),
        pytest.param(ENDED, {"dedupe_key": ENDED["event_id"]}, id="no session in the dedupe_key"),
        pytest.param(ENDED, {"dedupe_key": "user_logout:sess_2abcDEF"}, id="the dedupe_key of a logout"),
        pytest.param(ENDED, {"auth": "expired"}, id="a verdict on a token"),
        pytest.param(ENDED, {"reason": "token-expired"}, id="a reason"),
        pytest.param(ENDED, {"user_id": None}, id="no user"),
        pytest.param(ENDED, {"session_id": None}, id="no session"),
        pytest.param(ENDED, {"session_id": "s" * 129}, id="a session of 129 characters"),
        pytest.param(ENDED, {"source": "frontend"}, id="the frontend as source"),
        pytest.param(ENDED, {"origin": "https://app.example.com"}, id="an origin"),
        pytest.param(ENDED, {"cause": "expired"}, id="a cause that Clerk does not tell of"),
        pytest.param(ENDED, {"cause": None}, id="no cause"),
        pytest.param(ENDED, {"ended_at": None}, id="no time of the end"),
        pytest.param(ENDED, {"ended_at": 1716883200}, id="a number as time"),
        pytest.param(ENDED, {"ended_at": "2026-11-21T09:44:18Z"}, id="a time without microseconds"),
        pytest.param(ENDED, {"initiated_by": None}, id="nobody although the user signed out"),
        pytest.param(ENDED, {"initiated_by": "admin"}, id="an admin without an actor"),
        pytest.param(REVOKED, {"initiated_by": "user"}, id="a user who revoked it"),
        pytest.param(IMPERSONATED, {"initiated_by": "user"}, id="an actor who is no admin"),
        pytest.param(ENDED, {"client_ip": None}, id="an optional key that is null"),
    ],
)
def test_a_line_that_is_never_emitted_is_refused(values: dict[str, Any], change: dict[str, Any]) -> None:
    assert not is_valid(emitted(values) | change, SCHEMA)


@pytest.mark.parametrize("key", SCHEMA["required"])
def test_a_line_without_a_key_that_is_always_there_is_refused(key: str) -> None:
    line = emitted(EVERYTHING)
    del line[key]
    assert not is_valid(line, SCHEMA)

"""The schemas are what consumers hold on to: they describe what is emitted, all of it, and refuse what never is."""

import asyncio
import subprocess
import sys
import uuid
import zipfile
from pathlib import Path
from typing import Any

import jsonschema_rs
import orjson
import pytest
from click.testing import CliRunner

from service.clerk.verdict import Auth, Reason
from service.cli import main
from service.events import types
from service.events.recorder import Recorder
from service.events.schemas import asyncapi, schemas
from service.events.types import Event, UserLogoutSuppressed
from service.telemetry.metrics import Metrics
from tests.support.events import told
from tests.support.lines import MAX_LINE, read_line

ROOT = Path(__file__).parents[2]
DRAFT_7 = "http://json-schema.org/draft-07/schema#"
STANDARD = orjson.loads((ROOT / "tests/standards/asyncapi-3.0.0.json").read_bytes())

EVENT_ID = "01990000-0000-7000-8000-000000000000"
TIME = "2026-11-21T09:44:18.123456Z"
ABSENT: dict[str, Any] = {
    "event_id": EVENT_ID,
    "timestamp": TIME,
    "auth": "absent",
    "reason": "session-token-missing",
    "request_id": "r",
}
NO_TOKEN = {"authorized_party": None, "token_issued_at": None}
REJECTED = ABSENT | {"auth": "rejected", "reason": "token-invalid"}
UNVERIFIABLE = ABSENT | {"auth": "unverifiable", "reason": "jwk-failed-to-load"}
VERIFIED = ABSENT | {"user_id": "user_2xyzUVW", "session_id": "sess_2abcDEF", "auth": "verified", "reason": None}
EXPIRED = VERIFIED | {"auth": "expired", "reason": "token-expired"}
IMPERSONATED = VERIFIED | {"actor_id": "user_2support"}
EVERYTHING = IMPERSONATED | {
    "org_id": "org_2abc",
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    "origin": "https://app.example.com",
    "client_ip": "203.0.113.0",
    "user_agent": "curl/8",
}
EVENTS = {event.name: event for event in vars(types).values() if isinstance(event, type) and hasattr(event, "name")}
TOKEN = {"authorized_party": "https://app.example.com", "token_issued_at": TIME}
OWN: dict[str, dict[str, Any]] = {
    "user_logout": TOKEN,
    "user_logout_everywhere": TOKEN | {"scope": "all", "revoked_sessions": 3, "failed_sessions": 0},
    "session_ended": {
        "event_id": str(uuid.uuid5(uuid.NAMESPACE_URL, "msg_1")),
        "origin": None,
        "cause": "removed",
        "ended_at": TIME,
        "initiated_by": "user",
    },
    "session_used_after_logout": {"logged_out_at": TIME, "token_issued_at": TIME, "issued_after_logout": False},
    "user_logout_suppressed": {"count": 1, "window_start": TIME, "window_end": TIME},
}
"""What each event says beside or instead of the envelope."""


def line_of(event: Event) -> bytes:
    """The line that is emitted for an event."""
    lines: list[bytes] = []

    async def append(line: bytes) -> bool:
        lines.append(line)
        return True

    asyncio.run(Recorder(append, "1.2.3", Metrics()).record(event))
    return lines[0]


def made(name: str, values: dict[str, Any]) -> Event:
    """An event of these values; what they do not say of its own is as in ``OWN``."""
    own = OWN[name] | {key: value for key, value in values.items() if key in OWN[name] and key not in ABSENT}
    if name == "session_ended":
        own["origin"] = None
        if "initiated_by" not in values:
            own["initiated_by"] = "admin" if "actor_id" in values else {"revoked": None}.get(own["cause"], "user")
    if name == "user_logout_suppressed":
        return UserLogoutSuppressed(event_id=EVENT_ID, timestamp=TIME, **own)
    event: Event = EVENTS[name](**told(values | own))
    return event


def emitted(name: str, values: dict[str, Any]) -> dict[str, Any]:
    """The line of an event that is made of an envelope's values and its own."""
    line: dict[str, Any] = orjson.loads(line_of(made(name, values)))
    return line


def is_valid(line: dict[str, Any], name: str) -> bool:
    """What both drafts say; they have to agree."""
    schema = schemas()[name]
    by_draft_7 = jsonschema_rs.Draft7Validator(schema | {"$schema": DRAFT_7}, validate_formats=True).is_valid(line)
    by_2020_12 = jsonschema_rs.Draft202012Validator(schema, validate_formats=True).is_valid(line)
    assert by_draft_7 == by_2020_12
    return by_2020_12


# --- All of them -----------------------------------------------------------------------------------------------------


def test_every_event_has_a_schema() -> None:
    assert list(schemas()) == sorted(EVENTS) == sorted(OWN)


@pytest.mark.parametrize("name", schemas())
def test_a_schema_is_valid_in_both_drafts_and_complete_in_itself(name: str) -> None:
    schema = schemas()[name]
    for draft in (DRAFT_7, schema["$schema"]):
        jsonschema_rs.meta.validate(schema | {"$schema": draft})
    assert b'"$ref"' not in orjson.dumps(schema)
    assert schema["title"] == schema["properties"]["event"]["const"] == name
    assert schema["$id"] == f"urn:clerk-logout:event:{name}:1"
    assert schema["description"]


@pytest.mark.parametrize("name", schemas())
def test_a_schema_describes_the_emitted_keys_in_their_order(name: str) -> None:
    schema = schemas()[name]
    assert list(schema["properties"]) == list(emitted(name, EVERYTHING))
    assert schema["required"] == list(emitted(name, VERIFIED))


@pytest.mark.parametrize("name", schemas())
def test_all_events_share_one_envelope(name: str) -> None:
    """A consumer may read the keys of a logout from every line."""
    assert set(schemas()["user_logout"]["required"]) - set(TOKEN) <= set(schemas()[name]["required"])


@pytest.mark.parametrize(("key", "values"), [("auth", Auth), ("reason", [None, *Reason])])
def test_the_schema_of_a_logout_lists_the_verdicts_values(key: str, values: Any) -> None:
    assert set(schemas()["user_logout"]["properties"][key]["enum"]) == set(values)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        *[(name, values) for name in schemas() for values in (VERIFIED, IMPERSONATED, EVERYTHING)],
        *[("user_logout", values | NO_TOKEN) for values in (REJECTED, UNVERIFIABLE, ABSENT)],
        *[("user_logout", values) for values in (EXPIRED, VERIFIED | {"authorized_party": None})],
        *[("user_logout", VERIFIED | {"initiated_by": initiator}) for initiator in ("admin", "agent")],
        ("user_logout_everywhere", VERIFIED | {"scope": "others", "revoked_sessions": 0, "failed_sessions": 2}),
        ("session_used_after_logout", VERIFIED | {"issued_after_logout": True}),
        *[("session_ended", VERIFIED | {"cause": cause}) for cause in ("ended", "revoked")],
        ("session_ended", IMPERSONATED | {"cause": "revoked", "initiated_by": "agent"}),
    ],
)
def test_a_line_as_it_is_emitted_is_valid(name: str, values: dict[str, Any]) -> None:
    line = emitted(name, values)
    assert is_valid(line, name)
    assert is_valid(line | {"country": "AT"}, name), "a later version may add keys"


# --- What is never emitted -------------------------------------------------------------------------------------------

NOBODY = REJECTED | NO_TOKEN


@pytest.mark.parametrize(
    ("name", "values", "change"),
    [
        # Nothing that is not proven.
        *[("user_logout", NOBODY, {key: "user_2xyzUVW"}) for key in ("user_id", "session_id", "org_id", "actor_id")],
        *[("user_logout", values | NO_TOKEN, {"user_id": "user_2xyzUVW"}) for values in (ABSENT, UNVERIFIABLE)],
        *[("user_logout", NOBODY, {key: value}) for key, value in TOKEN.items()],
        ("user_logout", NOBODY, {"dedupe_key": "user_logout:sess_2abcDEF"}),
        ("user_logout", NOBODY, {"initiated_by": "user"}),
        *[("user_logout_suppressed", VERIFIED, {key: "r"}) for key in ("auth", "user_id", "request_id")],
        # Everything that is.
        *[("user_logout", VERIFIED, {key: None}) for key in ("user_id", "session_id", "token_issued_at")],
        ("user_logout", VERIFIED, {"dedupe_key": EVENT_ID}),
        # Who acted.
        *[("user_logout", values, {"initiated_by": None}) for values in (VERIFIED, IMPERSONATED)],
        *[(name, IMPERSONATED, {"initiated_by": "user"}) for name in ("user_logout", "session_ended")],
        ("session_ended", VERIFIED | {"cause": "revoked"}, {"initiated_by": "user"}),
        ("user_logout_everywhere", VERIFIED, {"actor_id": "user_2support"}),
        # A reason exactly where there is one.
        ("user_logout", VERIFIED, {"reason": "token-expired"}),
        *[("user_logout", values | NO_TOKEN, {"reason": None}) for values in (REJECTED, ABSENT)],
        ("user_logout", VERIFIED, {"auth": "expired"}),
        ("user_logout", EXPIRED, {"reason": "token-invalid"}),
        # Values out of bounds, of each kind one; tests/released holds the others.
        ("user_logout", VERIFIED, {"user_id": "u" * 129}),
        ("user_logout", VERIFIED, {"timestamp": "2026-13-21T09:44:18.123456Z"}),
        ("user_logout", VERIFIED, {"schema_version": 2}),
        ("user_logout", VERIFIED, {"request_id": "a\nb"}),
        ("user_logout", VERIFIED, {"client_ip": None}),
        ("user_logout_everywhere", VERIFIED, {"failed_sessions": 1.5}),
        ("user_logout_everywhere", VERIFIED, {"dedupe_key": "user_logout_everywhere:sess_2abcDEF"}),
        ("session_ended", VERIFIED, {"event_id": EVENT_ID}),
        ("session_used_after_logout", VERIFIED, {"issued_after_logout": 1}),
        ("user_logout_suppressed", VERIFIED, {"count": 0}),
    ],
)
def test_a_line_that_is_never_emitted_is_refused(name: str, values: dict[str, Any], change: dict[str, Any]) -> None:
    assert not is_valid(emitted(name, values) | change, name)


@pytest.mark.parametrize("character", ['"', "\\"])
@pytest.mark.parametrize("name", ["user_logout", "user_logout_everywhere", "session_used_after_logout"])
def test_the_longest_line_is_within_the_limit(name: str, character: str) -> None:
    """Each field at its bound, full of characters that JSON writes as two bytes."""
    identifiers = dict.fromkeys(["user_id", "session_id", "org_id", "actor_id", "request_id"], character * 128)
    longest = EVERYTHING | identifiers | dict.fromkeys(["origin", "user_agent"], character * 256)
    if "authorized_party" in schemas()[name]["required"]:
        longest["authorized_party"] = character * 256
    longest["client_ip"] = "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255"
    line = line_of(made(name, longest))
    assert 3000 < len(line) < MAX_LINE
    read_line(line)


def test_the_wheel_holds_whatever_is_read_from_the_package(tmp_path: Path) -> None:
    command = ["pip", "wheel", str(ROOT), "--no-deps", "--no-build-isolation", "--quiet", "-w", str(tmp_path)]
    subprocess.run([sys.executable, "-m", *command], check=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name: archive.read(name) for name in archive.namelist() if name.endswith((".json", ".html", ".sql"))}
    documents = {f"service/events/schemas/{name}.json" for name in ("envelope", *schemas())}
    documents |= {f"service/report/sql/{path.name}" for path in (ROOT / "deploy/pipeline/sql").iterdir()}
    pages = {"service/sandbox/page.html", "service/report/page.html"}
    assert set(shipped) == documents | pages | {"service/endpoints/openapi.json"}
    assert all((ROOT / name).read_bytes() == shipped[name] for name in shipped)


# --- The AsyncAPI document -------------------------------------------------------------------------------------------


def test_the_document_holds_to_asyncapi_3() -> None:
    jsonschema_rs.Draft7Validator(STANDARD).validate(asyncapi())


@pytest.mark.parametrize("name", EVENTS)
def test_a_message_takes_its_events_and_no_others(name: str) -> None:
    message = asyncapi()["components"]["messages"][name]
    assert asyncapi()["channels"]["events"]["messages"][name] == {"$ref": f"#/components/messages/{name}"}
    validator = jsonschema_rs.Draft7Validator(message["payload"], validate_formats=True)
    assert [other for other in EVENTS if validator.is_valid(emitted(other, EVERYTHING))] == [name]


def test_the_command_prints_the_document() -> None:
    assert orjson.loads(CliRunner().invoke(main, ["asyncapi"]).output) == asyncapi()

"""The schemas are what consumers hold on to: they describe what is emitted, all of it, and refuse what never is."""

import asyncio
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.clerk.verdict import Auth, Reason
from service.events.recorder import Recorder
from service.events.schemas import schemas
from service.events.types import (
    Event,
    SessionEnded,
    SessionUsedAfterLogout,
    UserLogout,
    UserLogoutEverywhere,
    UserLogoutSuppressed,
    new_event_id,
    now,
)
from tests.support.events import told
from tests.support.lines import MAX_LINE, read_line

ROOT = Path(__file__).parents[2]
SCHEMA = schemas()["user_logout"]
DRAFT_7 = "http://json-schema.org/draft-07/schema#"
DRAFT_7_KEYWORDS = {
    *("$schema", "$id", "$ref", "$comment", "title", "description", "default", "examples", "definitions"),
    *("type", "enum", "const", "multipleOf", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum"),
    *("maxLength", "minLength", "pattern", "format", "contentMediaType", "contentEncoding"),
    *("items", "additionalItems", "maxItems", "minItems", "uniqueItems", "contains"),
    *("maxProperties", "minProperties", "required", "properties", "patternProperties", "additionalProperties"),
    *("dependencies", "propertyNames", "if", "then", "else", "allOf", "anyOf", "oneOf", "not", "readOnly", "writeOnly"),
}

EVENT_ID = "01990000-0000-7000-8000-000000000000"
ABSENT: dict[str, Any] = {
    "event_id": EVENT_ID,
    "timestamp": "2026-11-21T09:44:18.123456Z",
    "auth": "absent",
    "reason": "session-token-missing",
    "request_id": "r",
}
IDENTITY = {"user_id": "user_2xyzUVW", "session_id": "sess_2abcDEF"}
VERIFIED = ABSENT | IDENTITY | {"auth": "verified", "reason": None}
EVERYTHING = VERIFIED | {
    "org_id": "org_2abc",
    "actor_id": "user_2support",
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    "origin": "https://app.example.com",
    "client_ip": "203.0.113.0",
    "user_agent": "curl/8",
}


class OneLine:
    """A log that keeps the last line."""

    def __init__(self) -> None:
        self.line = b""

    async def append(self, line: bytes) -> bool:
        self.line = line
        return True


def line_of(event: Event) -> bytes:
    """The line that is emitted for an event."""
    log = OneLine()
    asyncio.run(Recorder(log, "1.2.3").record(event))
    return log.line


def emitted(values: dict[str, Any]) -> dict[str, Any]:
    event: dict[str, Any] = orjson.loads(line_of(UserLogout(**told(values))))
    return event


def is_valid(line: dict[str, Any], schema: dict[str, Any] = SCHEMA) -> bool:
    """What both drafts say; they have to agree."""
    by_draft_7 = jsonschema_rs.Draft7Validator(schema | {"$schema": DRAFT_7}, validate_formats=True).is_valid(line)
    by_2020_12 = jsonschema_rs.Draft202012Validator(schema, validate_formats=True).is_valid(line)
    assert by_draft_7 == by_2020_12
    return by_2020_12


def keywords(schema: dict[str, Any]) -> Iterator[str]:
    """Every keyword in a schema and its subschemas."""
    for keyword, value in schema.items():
        yield keyword
        if keyword in {"properties", "patternProperties", "definitions"}:
            subschemas = list(value.values())
        else:
            subschemas = value if isinstance(value, list) else [value]
        for subschema in subschemas:
            if isinstance(subschema, dict):
                yield from keywords(subschema)


@pytest.mark.parametrize("name", schemas())
def test_a_schema_uses_only_keywords_that_draft_7_knows_too(name: str) -> None:
    assert set(keywords(schemas()[name])) <= DRAFT_7_KEYWORDS


@pytest.mark.parametrize("draft", [DRAFT_7, "https://json-schema.org/draft/2020-12/schema"])
@pytest.mark.parametrize("name", schemas())
def test_a_schema_is_valid_in_both_drafts(name: str, draft: str) -> None:
    jsonschema_rs.meta.validate(schemas()[name] | {"$schema": draft})


@pytest.mark.parametrize("name", schemas())
def test_a_schema_is_named_after_its_event(name: str) -> None:
    schema = schemas()[name]
    assert schema["title"] == schema["properties"]["event"]["const"] == name
    assert schema["$id"] == f"urn:clerk-logout:event:{name}:1"


def test_every_event_has_a_schema() -> None:
    assert list(schemas()) == [
        SessionEnded.name,
        SessionUsedAfterLogout.name,
        UserLogout.name,
        UserLogoutEverywhere.name,
        UserLogoutSuppressed.name,
    ]


def test_the_schema_describes_exactly_the_keys_that_are_emitted_in_their_order() -> None:
    assert list(SCHEMA["properties"]) == list(emitted(EVERYTHING))


def test_a_summary_of_suppressed_calls_has_the_same_envelope() -> None:
    when = "2026-11-21T09:44:18.123456Z"
    log = OneLine()
    event = UserLogoutSuppressed(event_id=EVENT_ID, timestamp=when, count=3, window_start=when, window_end=when)
    asyncio.run(Recorder(log, "0.1.0").record(event))
    line = read_line(log.line)
    schema = schemas()[event.name]
    assert list(line) == list(schema["properties"]) == schema["required"]
    assert set(line) - {"count", "window_start", "window_end"} == set(SCHEMA["required"])
    assert {name for name, value in line.items() if value is None} == {
        *("auth", "reason", "user_id", "session_id", "org_id", "actor_id", "initiated_by"),
        *("request_id", "trace_id", "origin"),
    }


def test_the_schema_requires_exactly_the_keys_that_are_always_emitted() -> None:
    assert SCHEMA["required"] == list(emitted(ABSENT))


@pytest.mark.parametrize(("key", "values"), [("auth", Auth), ("reason", [None, *Reason])])
def test_the_schema_lists_exactly_the_verdicts_values(key: str, values: Any) -> None:
    assert set(SCHEMA["properties"][key]["enum"]) == set(values)


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(VERIFIED, id="verified"),
        pytest.param(EVERYTHING, id="everything"),
        pytest.param(VERIFIED | {"auth": "expired", "reason": "token-expired"}, id="expired"),
        pytest.param(ABSENT | {"auth": "rejected", "reason": "token-invalid"}, id="rejected"),
        pytest.param(ABSENT | {"auth": "unverifiable", "reason": "jwk-failed-to-load"}, id="unverifiable"),
        pytest.param(ABSENT, id="absent"),
    ],
)
def test_a_line_as_it_is_emitted_is_valid(values: dict[str, Any]) -> None:
    assert is_valid(emitted(values))


def test_a_key_that_a_later_version_adds_is_allowed() -> None:
    assert is_valid(emitted(VERIFIED) | {"country": "AT"})


REJECTED = ABSENT | {"auth": "rejected", "reason": "token-invalid"}


@pytest.mark.parametrize(
    ("values", "change"),
    [
        pytest.param(REJECTED, {"user_id": "user_2xyzUVW"}, id="a user that is not proven"),
        pytest.param(REJECTED, {"session_id": "sess_2abcDEF"}, id="a session that is not proven"),
        pytest.param(REJECTED, {"org_id": "org_2abc"}, id="an organisation that is not proven"),
        pytest.param(REJECTED, {"dedupe_key": "user_logout:sess_2abcDEF"}, id="an unproven session as dedupe_key"),
        pytest.param(REJECTED, {"initiated_by": "user"}, id="an initiator that is not proven"),
        pytest.param(ABSENT, {"user_id": "user_2xyzUVW"}, id="a user without a token"),
        pytest.param(
            ABSENT | {"auth": "unverifiable", "reason": "jwk-failed-to-load"},
            {"user_id": "user_2xyzUVW"},
            id="a user without a key",
        ),
        pytest.param(VERIFIED, {"user_id": None}, id="verified without a user"),
        pytest.param(VERIFIED, {"session_id": None}, id="verified without a session"),
        pytest.param(VERIFIED, {"dedupe_key": EVENT_ID}, id="verified without its session as dedupe_key"),
        pytest.param(VERIFIED, {"initiated_by": None}, id="verified without an initiator"),
        pytest.param(VERIFIED, {"reason": "token-expired"}, id="verified with a reason"),
        pytest.param(REJECTED, {"reason": None}, id="rejected without a reason"),
        pytest.param(ABSENT, {"reason": None}, id="absent without a reason"),
        pytest.param(VERIFIED, {"auth": "expired"}, id="expired without a reason"),
        pytest.param(
            VERIFIED | {"auth": "expired", "reason": "token-expired"},
            {"reason": "token-invalid"},
            id="expired for another reason",
        ),
        pytest.param(EVERYTHING, {"initiated_by": "user"}, id="an actor who is no admin"),
        pytest.param(VERIFIED, {"initiated_by": "admin"}, id="an admin without an actor"),
        pytest.param(VERIFIED, {"user_id": "u" * 129}, id="a user of 129 characters"),
        pytest.param(VERIFIED, {"user_id": "us er"}, id="a user with a space"),
        pytest.param(VERIFIED, {"user_id": ""}, id="an empty user"),
        pytest.param(VERIFIED, {"event": "user_login"}, id="another event"),
        pytest.param(VERIFIED, {"schema_version": 2}, id="another version"),
        pytest.param(VERIFIED, {"event_id": "0e7c6a1e-6f1c-4d8e-9b0a-1c2d3e4f5a6b"}, id="a UUIDv4"),
        pytest.param(VERIFIED, {"timestamp": "2026-11-21T09:44:18Z"}, id="a time without microseconds"),
        pytest.param(VERIFIED, {"timestamp": "2026-11-21T09:44:18.123456+01:00"}, id="a time that is not UTC"),
        pytest.param(VERIFIED, {"timestamp": "2026-13-21T09:44:18.123456Z"}, id="a thirteenth month"),
        pytest.param(VERIFIED, {"auth": "ok"}, id="a verdict that does not exist"),
        pytest.param(REJECTED, {"reason": "because"}, id="a reason that does not exist"),
        pytest.param(VERIFIED, {"source": "cron"}, id="a source that does not exist"),
        pytest.param(VERIFIED, {"request_id": "a\nb"}, id="a request id over two lines"),
        pytest.param(VERIFIED, {"trace_id": "4BF92F3577B34DA6A3CE929D0E0E4736"}, id="a trace id in upper case"),
        pytest.param(VERIFIED, {"client_ip": None}, id="an optional key that is null"),
        pytest.param(VERIFIED, {"user_agent": "a" * 257}, id="a user agent of 257 characters"),
    ],
)
def test_a_line_that_is_never_emitted_is_refused(values: dict[str, Any], change: dict[str, Any]) -> None:
    assert not is_valid(emitted(values) | change)


@pytest.mark.parametrize("key", SCHEMA["required"])
def test_a_line_without_a_key_that_is_always_there_is_refused(key: str) -> None:
    line = emitted(EVERYTHING)
    del line[key]
    assert not is_valid(line)


# --- The summary of flood control ------------------------------------------------------------------------------------

SUMMARY_SCHEMA = schemas()["user_logout_suppressed"]
TIME = "2026-11-21T09:44:18.123456Z"


def emitted_summary() -> dict[str, Any]:
    summary = UserLogoutSuppressed(event_id=EVENT_ID, timestamp=TIME, count=1, window_start=TIME, window_end=TIME)
    event: dict[str, Any] = orjson.loads(line_of(summary))
    return event


def test_a_summary_as_it_is_emitted_is_valid() -> None:
    assert is_valid(emitted_summary(), SUMMARY_SCHEMA)


def test_a_summary_has_exactly_the_keys_that_its_schema_describes_and_requires() -> None:
    assert list(emitted_summary()) == list(SUMMARY_SCHEMA["properties"]) == SUMMARY_SCHEMA["required"]


def test_a_key_that_a_later_version_adds_to_a_summary_is_allowed() -> None:
    assert is_valid(emitted_summary() | {"country": "AT"}, SUMMARY_SCHEMA)


@pytest.mark.parametrize("key", ["event_id", "timestamp", "schema_version", "service", "service_version"])
def test_what_both_events_say_is_described_alike(key: str) -> None:
    rules = [
        {name: rule for name, rule in schema["properties"][key].items() if name != "description"}
        for schema in (SCHEMA, SUMMARY_SCHEMA)
    ]
    assert rules[0] == rules[1]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"count": 0}, id="of no call"),
        pytest.param({"count": 1.5}, id="of half a call"),
        pytest.param({"count": None}, id="without a count"),
        pytest.param({"window_start": None}, id="without a start"),
        pytest.param({"window_end": "2026-11-21T09:44:18Z"}, id="a time without microseconds"),
        pytest.param({"auth": "absent"}, id="a verdict on many calls"),
        pytest.param({"user_id": "user_2xyzUVW"}, id="a user"),
        pytest.param({"request_id": "r"}, id="one request of many"),
        pytest.param({"dedupe_key": "user_logout:sess_2abcDEF"}, id="a session as dedupe_key"),
        pytest.param({"source": "clerk_webhook"}, id="another source"),
    ],
)
def test_a_summary_that_is_never_emitted_is_refused(change: dict[str, Any]) -> None:
    assert not is_valid(emitted_summary() | change, SUMMARY_SCHEMA)


@pytest.mark.parametrize("key", SUMMARY_SCHEMA["required"])
def test_a_summary_without_one_of_its_keys_is_refused(key: str) -> None:
    line = emitted_summary()
    del line[key]
    assert not is_valid(line, SUMMARY_SCHEMA)


# --- The use of a session after its logout ---------------------------------------------------------------------------

USED_SCHEMA = schemas()["session_used_after_logout"]


def used(**changes: Any) -> SessionUsedAfterLogout:
    times = {"logged_out_at": TIME, "token_issued_at": TIME, "issued_after_logout": False}
    return SessionUsedAfterLogout(**told(VERIFIED | times | changes))


def emitted_use(**changes: Any) -> dict[str, Any]:
    event: dict[str, Any] = orjson.loads(line_of(used(**changes)))
    return event


@pytest.mark.parametrize("changes", [{}, EVERYTHING, {"issued_after_logout": True}])
def test_a_use_after_logout_as_it_is_emitted_is_valid(changes: dict[str, Any]) -> None:
    assert is_valid(emitted_use(**changes), USED_SCHEMA)


def test_a_use_after_logout_has_exactly_the_keys_that_its_schema_describes_and_requires() -> None:
    assert list(emitted_use(**EVERYTHING)) == list(USED_SCHEMA["properties"])
    assert list(emitted_use()) == USED_SCHEMA["required"]


def test_a_key_that_a_later_version_adds_to_a_use_after_logout_is_allowed() -> None:
    assert is_valid(emitted_use() | {"country": "AT"}, USED_SCHEMA)


@pytest.mark.parametrize(
    "key",
    [
        *("event_id", "timestamp", "schema_version", "org_id", "actor_id", "request_id", "trace_id", "origin"),
        *("client_ip", "user_agent", "service", "service_version"),
    ],
)
def test_what_a_logout_says_too_is_described_alike(key: str) -> None:
    rules = [
        {name: rule for name, rule in schema["properties"][key].items() if name != "description"}
        for schema in (SCHEMA, USED_SCHEMA)
    ]
    assert rules[0] == rules[1]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"auth": "expired", "reason": "token-expired"}, id="with an expired token"),
        pytest.param({"reason": "token-expired"}, id="with a reason"),
        pytest.param({"user_id": None}, id="of nobody"),
        pytest.param({"session_id": None}, id="of no session"),
        pytest.param({"dedupe_key": EVENT_ID}, id="without its session as dedupe_key"),
        pytest.param({"dedupe_key": "user_logout:sess_2abcDEF"}, id="with the dedupe_key of a logout"),
        pytest.param({"initiated_by": "user"}, id="with an initiator"),
        pytest.param({"source": "clerk_webhook"}, id="from another source"),
        pytest.param({"logged_out_at": None}, id="without the logout's time"),
        pytest.param({"token_issued_at": "2026-11-21T09:44:18Z"}, id="a time without microseconds"),
        pytest.param({"issued_after_logout": None}, id="without a word on Clerk"),
        pytest.param({"issued_after_logout": 1}, id="with a number for a truth"),
        pytest.param({"request_id": "a b"}, id="with a space in the request id"),
    ],
)
def test_a_use_after_logout_that_is_never_emitted_is_refused(change: dict[str, Any]) -> None:
    assert not is_valid(emitted_use() | change, USED_SCHEMA)


@pytest.mark.parametrize("key", USED_SCHEMA["required"])
def test_a_use_after_logout_without_one_of_its_keys_is_refused(key: str) -> None:
    line = emitted_use()
    del line[key]
    assert not is_valid(line, USED_SCHEMA)


# --- Sign-outs everywhere --------------------------------------------------------------------------------------------

EVERYWHERE_SCHEMA = schemas()["user_logout_everywhere"]
EVERYWHERE: dict[str, Any] = {name: value for name, value in VERIFIED.items() if name not in {"auth", "reason"}} | {
    "scope": "all",
    "revoked_sessions": 3,
    "failed_sessions": 0,
}
EVERYTHING_EVERYWHERE = EVERYTHING | EVERYWHERE


def emitted_everywhere(values: dict[str, Any]) -> dict[str, Any]:
    event: dict[str, Any] = orjson.loads(line_of(UserLogoutEverywhere(**told(values))))
    return event


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(EVERYWHERE, id="all"),
        pytest.param(EVERYWHERE | {"scope": "others", "revoked_sessions": 0}, id="others"),
        pytest.param(EVERYWHERE | {"failed_sessions": 2}, id="some failed"),
        pytest.param(EVERYTHING_EVERYWHERE, id="everything"),
    ],
)
def test_a_sign_out_everywhere_as_it_is_emitted_is_valid(values: dict[str, Any]) -> None:
    assert is_valid(emitted_everywhere(values), EVERYWHERE_SCHEMA)


def test_the_schema_of_a_sign_out_everywhere_describes_exactly_the_keys_that_are_emitted_in_their_order() -> None:
    assert list(EVERYWHERE_SCHEMA["properties"]) == list(emitted_everywhere(EVERYTHING_EVERYWHERE))
    assert EVERYWHERE_SCHEMA["required"] == list(emitted_everywhere(EVERYWHERE))


def test_a_key_that_a_later_version_adds_to_a_sign_out_everywhere_is_allowed() -> None:
    assert is_valid(emitted_everywhere(EVERYWHERE) | {"country": "AT"}, EVERYWHERE_SCHEMA)


@pytest.mark.parametrize(
    "key", ["event_id", "timestamp", "org_id", "actor_id", "request_id", "trace_id", "origin", "client_ip", "service"]
)
def test_what_a_sign_out_everywhere_shares_with_a_logout_is_described_alike(key: str) -> None:
    rules = [
        {name: rule for name, rule in schema["properties"][key].items() if name != "description"}
        for schema in (SCHEMA, EVERYWHERE_SCHEMA)
    ]
    assert rules[0] == rules[1]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"scope": "mine"}, id="another scope"),
        pytest.param({"revoked_sessions": -1}, id="fewer than none"),
        pytest.param({"failed_sessions": 1.5}, id="half a session"),
        pytest.param({"failed_sessions": None}, id="an unknown number"),
        pytest.param({"auth": "expired"}, id="an expired token"),
        pytest.param({"reason": "token-expired"}, id="a reason"),
        pytest.param({"user_id": None}, id="without a user"),
        pytest.param({"session_id": None}, id="without a session"),
        pytest.param({"initiated_by": None}, id="without an initiator"),
        pytest.param({"initiated_by": "admin"}, id="an admin without an actor"),
        pytest.param({"actor_id": "user_2support"}, id="an actor who is no admin"),
        pytest.param({"dedupe_key": "user_logout_everywhere:sess_2abcDEF"}, id="its session as dedupe_key"),
        pytest.param({"source": "clerk_webhook"}, id="another source"),
        pytest.param({"event": "user_logout"}, id="another event"),
    ],
)
def test_a_sign_out_everywhere_that_is_never_emitted_is_refused(change: dict[str, Any]) -> None:
    assert not is_valid(emitted_everywhere(EVERYWHERE) | change, EVERYWHERE_SCHEMA)


@pytest.mark.parametrize("key", EVERYWHERE_SCHEMA["required"])
def test_a_sign_out_everywhere_without_a_key_that_is_always_there_is_refused(key: str) -> None:
    line = emitted_everywhere(EVERYTHING_EVERYWHERE)
    del line[key]
    assert not is_valid(line, EVERYWHERE_SCHEMA)


# --- Any event within its bounds -------------------------------------------------------------------------------------

_identifiers = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=128)
_identities = st.fixed_dictionaries(
    {"auth": st.just("verified"), "reason": st.none(), "user_id": _identifiers, "session_id": _identifiers},
    optional={"org_id": _identifiers, "actor_id": _identifiers},
)
_nobodies = st.fixed_dictionaries({"auth": st.just("rejected"), "reason": st.sampled_from(Reason).map(str)})
_surroundings = st.fixed_dictionaries(
    {"event_id": st.builds(new_event_id), "timestamp": st.builds(now), "request_id": _identifiers},
    optional={
        "trace_id": st.from_regex(r"[0-9a-f]{32}", fullmatch=True),
        "origin": st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=256),
        "client_ip": st.ip_addresses().map(str),
        "user_agent": st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=256),
    },
)


@given(_identities | _nobodies, _surroundings)
def test_every_logout_within_its_bounds_is_one_valid_line(who: dict[str, Any], around: dict[str, Any]) -> None:
    read_line(line_of(UserLogout(**told(who | around))))


@pytest.mark.parametrize("character", ['"', "\\"])
def test_the_longest_line_is_within_the_limit(character: str) -> None:
    """Each field at its bound, full of characters that JSON writes as two bytes."""
    identifiers = dict.fromkeys(["user_id", "session_id", "org_id", "actor_id", "request_id"], character * 128)
    longest = EVERYTHING | identifiers | dict.fromkeys(["origin", "user_agent"], character * 256)
    longest["client_ip"] = "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255"
    for line in (
        line_of(UserLogout(**told(longest | {"auth": "expired", "reason": "token-expired"}))),
        line_of(used(**longest)),
    ):
        assert 3000 < len(line) < MAX_LINE
        read_line(line)


def test_the_wheel_holds_the_schemas_and_what_else_is_read_from_the_package(tmp_path: Path) -> None:
    command = ["pip", "wheel", str(ROOT), "--no-deps", "--no-build-isolation", "--quiet", "-w", str(tmp_path)]
    subprocess.run([sys.executable, "-m", *command], check=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name: archive.read(name) for name in archive.namelist() if name.endswith((".json", ".html", ".sql"))}
    documents = {f"service/events/schemas/{name}.json" for name in schemas()} | {"service/endpoints/openapi.json"}
    documents |= {f"service/report/sql/{path.name}" for path in (ROOT / "deploy/pipeline/sql").iterdir()}
    assert set(shipped) == documents | {"service/sandbox/page.html", "service/report/page.html"}
    assert all((ROOT / name).read_bytes() == shipped[name] for name in shipped)

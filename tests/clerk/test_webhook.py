"""Which webhooks are Clerk's, and what is taken from them."""

import math
import time
from typing import Any

import pytest

from service.clerk.webhook import EndedSession, WebhookReader, WebhookRefusedError, read_delivery
from tests.support.webhooks import NAME, OTHER_SECRET, SECRET, encoded, session_event, signed

READER = WebhookReader([SECRET])
BODY = encoded(session_event())
NO_MATCH = "no signature matches: is CLERK_WEBHOOK_SIGNING_SECRET that of this endpoint in Clerk's dashboard?"


def raw(headers: dict[str, str]) -> dict[bytes, list[bytes]]:
    return {name.encode(): [value.encode("latin-1")] for name, value in headers.items()}


def read(body: bytes = BODY, headers: dict[str, str] | None = None) -> EndedSession | None:
    """Read a webhook; one that is signed as it should be unless there are headers."""
    return READER.read(read_delivery(raw(signed(body) if headers is None else headers)), body)


def read_event(event: Any) -> EndedSession:
    end = read(encoded(event))
    assert end is not None
    return end


def refusal(body: bytes = BODY, headers: dict[str, str] | None = None) -> str:
    with pytest.raises(WebhookRefusedError) as refused:
        read(body, headers)
    return str(refused.value)


# --- What is taken ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["session.created", "session.ended ", ""])
def test_another_type_says_nothing_whatever_is_in_it(kind: str) -> None:
    assert read(encoded({"type": kind, "data": "text"})) is None


@pytest.mark.parametrize(
    ("sent", "seconds"),
    [
        (1_716_883_200_123, 1_716_883_200.123),
        (99_999_999_999, 99_999_999_999.0),
        (100_000_000_000, 100_000_000.0),
    ],
)
def test_the_time_may_be_in_seconds_or_milliseconds(sent: float, seconds: float) -> None:
    assert read_event(session_event() | {"timestamp": sent}).ended_at == seconds


@pytest.mark.parametrize("sent", [None, [1], {"client_ip": 1, "user_agent": {}}], ids=str)
def test_what_is_odd_and_not_needed_is_left_out(sent: Any) -> None:
    odd = session_event(last_active_organization_id=sent) | {"event_attributes": {"http_request": sent}}
    end = read_event(odd)
    assert (end.client_ip, end.user_agent, end.org_id) == (None, None, None)


@pytest.mark.parametrize("cause", ["ended", "revoked"])
@pytest.mark.parametrize(
    ("actor", "actor_id", "initiated_by"),
    [
        ({"sub": "user_2support", "iss": "x"}, "user_2support", "admin"),
        ({"sub": "agent_2", "type": "agent"}, "agent_2", "agent"),
        ({"type": "agent"}, None, "agent"),
        ({"sub": "a b", "type": ["agent"]}, None, "admin"),
        (False, None, "admin"),
    ],
)
def test_where_there_is_an_actor_it_was_not_the_user_alone(
    cause: str, actor: Any, actor_id: str | None, initiated_by: str
) -> None:
    end = read_event(session_event(f"session.{cause}", actor=actor, last_active_organization_id="org_2abc"))
    assert (end.actor_id, end.initiated_by, end.org_id) == (actor_id, initiated_by, "org_2abc")


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


@pytest.mark.parametrize(
    "metadata",
    [
        *(pytest.param(nested(levels), id=f"{levels} levels") for levels in (100, 100_000)),
        pytest.param('{"a":' * 4000 + '"]}\\"{"' + "}" * 4000, id="objects, and brackets in a string"),
        pytest.param("9" * 5000, id="5,000 digits"),
        pytest.param("[NaN, Infinity, -Infinity]", id="NaN"),
        pytest.param(r'{"\udfff\ud800": "\u0000"}', id="surrogates in a key"),
    ],
)
@pytest.mark.parametrize("place", ["before", "behind"])
def test_a_users_metadata_never_costs_the_event(metadata: str, place: str) -> None:
    event = session_event()
    del event["data"]["user"]
    text = encoded(event).decode()
    user = f'"user": {{"unsafe_metadata": {metadata}}}'
    body = text.replace('"data": {', f'"data": {{{user}, ') if place == "before" else f"{text[:-1]}, {user}}}"
    assert read(body.encode()) == read()


def test_a_byte_order_mark_does_no_harm() -> None:
    assert read(b"\xef\xbb\xbf" + BODY) == read()


# --- What is refused although it is signed ---------------------------------------------------------------------------


NOT_AN_ID: list[Any] = [None, "", "two words", "u" * 129, 1]
NO_OBJECT: list[Any] = [None, [], "text"]


@pytest.mark.parametrize(
    ("event", "text"),
    [
        *((session_event(id=value), "data.id is not 1-128 visible ASCII characters") for value in NOT_AN_ID),
        *((session_event(user_id=value), "data.user_id is not 1-128 visible ASCII characters") for value in NOT_AN_ID),
        *(
            (session_event() | {"data": value}, "data.user_id is not 1-128 visible ASCII characters")
            for value in NO_OBJECT
        ),
        *((value, "type is not a string") for value in NO_OBJECT),
        (session_event() | {"type": ["session.ended"]}, "type is not a string"),
    ],
)
def test_a_mistyped_field_is_named_and_never_shown(event: Any, text: str) -> None:
    assert refusal(encoded(event)) == text


@pytest.mark.parametrize("value", [None, "1716883200", True, -1, 253_402_300_800_000, math.nan])
def test_any_other_time_is_refused(value: Any) -> None:
    text = refusal(encoded(session_event() | {"timestamp": value}))
    assert text == "timestamp is not a time in seconds or milliseconds since 1970"


@pytest.mark.parametrize("body", [b"", b"{} x", b"[" * 2000, b"[" * 2000 + b"]" * 3000], ids=len)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    assert refusal(body) == "the body is not JSON"


# --- Signatures ------------------------------------------------------------------------------------------------------


def standard(headers: dict[str, str]) -> dict[str, str]:
    """The same headers under the names of Standard Webhooks."""
    return {name.replace("svix-", "webhook-"): value for name, value in headers.items()}


@pytest.mark.parametrize("name", ["svix-id", "svix-timestamp", "svix-signature"])
@pytest.mark.parametrize(
    ("times", "problem"), [(0, "is missing"), (2, "was sent more than once")], ids=["missing", "sent twice"]
)
def test_each_header_comes_once(name: str, times: int, problem: str) -> None:
    headers = raw(signed(BODY))
    headers[name.encode()] *= times
    with pytest.raises(WebhookRefusedError, match=f"^the header {name} {problem}$"):
        read_delivery(headers)


def test_the_headers_may_have_the_names_of_the_standard() -> None:
    """Under both names those of Svix count."""
    assert read(headers=standard(signed(BODY))) == read()
    assert read(headers=standard(signed(BODY, secret=OTHER_SECRET)) | signed(BODY)) == read()
    assert refusal(headers=standard(signed(BODY)) | signed(BODY, secret=OTHER_SECRET)) == NO_MATCH
    headers = standard(signed(BODY)) | {"webhook-timestamp": "\t"}
    assert refusal(headers=headers) == "the header webhook-timestamp is malformed"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("svix-id", value) for value in ("", "m" * 129, "msg_\xff", "msg\n")),
        *(("svix-timestamp", value) for value in ("soon", "-1", "01", "1" * 13, "²")),
        *(("svix-signature", value) for value in ("v1,\t", "v" * 4097)),
    ],
)
def test_a_malformed_header_is_named(name: str, value: str) -> None:
    assert refusal(headers=signed(BODY) | {name: value}) == f"the header {name} is malformed"


@pytest.mark.parametrize(
    "sent", ["v1", "v1,a", "v1,a,b", "v1,not base64", "v1," + "A" * 43 + "=", "v1a," + "A" * 86 + "==", ",", " " * 4096]
)
def test_what_is_no_signature_of_it_is_refused(sent: str) -> None:
    assert refusal(headers=signed(BODY) | {"svix-signature": sent}) == NO_MATCH
    both = f"{sent.strip()} {signed(BODY)['svix-signature']}"
    assert read(headers=signed(BODY) | {"svix-signature": both}) is not None


def test_body_id_and_time_are_signed() -> None:
    assert refusal(BODY + b"\n", signed(BODY)) == NO_MATCH
    assert refusal(headers=signed(BODY) | {"svix-id": "msg_other"}) == NO_MATCH
    assert refusal(headers=signed(BODY) | {"svix-timestamp": str(int(time.time()) - 1)}) == NO_MATCH


@pytest.mark.parametrize(("age", "side"), [(320, "old"), (-320, "in the future")])
def test_beyond_5_minutes_a_good_signature_is_refused(age: float, side: str) -> None:
    assert refusal(headers=signed(BODY, age=age)) == f"the signature is more than 5 minutes {side}"
    assert read(headers=signed(BODY, age=age * 7 // 8)) is not None
    for timestamp in ("1", "999999999999"):
        assert "more than 5 minutes" in refusal(headers=signed(BODY) | {"svix-timestamp": timestamp})


def test_what_is_not_utf_8_is_refused_whatever_its_signature() -> None:
    body = BODY.replace(NAME.encode(), b"\xff\xfe")
    assert refusal(body, signed(body)) == NO_MATCH

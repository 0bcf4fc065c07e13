"""Which webhooks are Clerk's, and what is taken from them."""

import math
import time
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.clerk.errors import WebhookRefusedError
from service.clerk.webhook import MAX_SIGNATURES, EndedSession, WebhookReader, read_delivery
from tests.support.webhooks import (
    ENDED_AT,
    MAIL,
    MESSAGE_ID,
    NAME,
    OTHER_SECRET,
    SECRET,
    encoded,
    session_event,
    signed,
)

READER = WebhookReader([SECRET])
BODY = encoded(session_event())
THIRD_SECRET = f"whsec_{b64encode(bytes(24)).decode()}"
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


@pytest.mark.parametrize("cause", ["ended", "removed", "revoked"])
def test_the_end_of_a_session_is_read(cause: str) -> None:
    assert read_event(session_event(f"session.{cause}")) == EndedSession(
        cause=cause,
        user_id="user_2xyzUVW",
        session_id="sess_2abcDEF",
        org_id=None,
        actor_id=None,
        initiated_by=None if cause == "revoked" else "user",
        ended_at=ENDED_AT / 1000,
        client_ip="203.0.113.77",
        user_agent="Mozilla/5.0 (é)",
    )


def test_organisation_and_impersonator_are_read() -> None:
    end = read_event(session_event(actor={"sub": "user_2support", "iss": "x"}, last_active_organization_id="org_2abc"))
    assert (end.org_id, end.actor_id) == ("org_2abc", "user_2support")


def test_the_embedded_user_is_left_out() -> None:
    assert not [personal for personal in (NAME, MAIL) if personal in str(read_event(session_event()))]


@pytest.mark.parametrize("kind", ["session.created", "session.pending", "user.created", "session.ended ", ""])
@pytest.mark.parametrize("data", [None, {}, "text", 1])
def test_another_type_says_nothing_whatever_is_in_it(kind: str, data: Any) -> None:
    assert read(encoded({"type": kind, "data": data})) is None


@pytest.mark.parametrize(
    ("sent", "seconds"),
    [
        (1_716_883_200, 1_716_883_200.0),
        (1_716_883_200.5, 1_716_883_200.5),
        (1_716_883_200_123, 1_716_883_200.123),
        (1_716_883_200_123.4, 1_716_883_200.1234),
        (0, 0.0),
        (99_999_999_999, 99_999_999_999.0),
        (100_000_000_000, 100_000_000.0),
        (253_402_300_799_999, 253_402_300_799.999),
    ],
)
def test_the_time_may_be_in_seconds_or_milliseconds(sent: float, seconds: float) -> None:
    assert read_event(session_event() | {"timestamp": sent}).ended_at == seconds


@pytest.mark.parametrize(
    "optional",
    [
        {"event_attributes": None},
        {"event_attributes": "text"},
        {"event_attributes": {"http_request": [1]}},
        {"event_attributes": {"http_request": {"client_ip": 1, "user_agent": {}}}},
    ],
)
def test_an_odd_address_or_user_agent_is_left_out(optional: dict[str, Any]) -> None:
    end = read_event(session_event() | optional)
    assert (end.client_ip, end.user_agent) == (None, None)


@pytest.mark.parametrize("value", ["", "a b", "o" * 129, "é", 1, False, [], {}, {"id": "org_2abc"}])
def test_an_odd_organisation_is_left_out(value: Any) -> None:
    assert read_event(session_event(last_active_organization_id=value)).org_id is None


@pytest.mark.parametrize("cause", ["ended", "removed", "revoked"])
@pytest.mark.parametrize(
    ("actor", "actor_id", "initiated_by"),
    [
        ({"sub": "user_2support"}, "user_2support", "admin"),
        ({"sub": "agent_2", "type": "agent"}, "agent_2", "agent"),
        *(({"sub": odd_sub}, None, "admin") for odd_sub in (None, "", "a b", "u" * 129, 1, False, ["user_1"], "é")),
        ({"type": "agent"}, None, "agent"),
        ({"sub": "user_2support", "type": ["agent"]}, "user_2support", "admin"),
        ({}, None, "admin"),
        *((odd_actor, None, "admin") for odd_actor in (["user_2support"], "user_2support", "", 0, False, True)),
    ],
)
def test_where_there_is_an_actor_it_was_not_the_user_alone(
    cause: str, actor: Any, actor_id: str | None, initiated_by: str
) -> None:
    end = read_event(session_event(f"session.{cause}", actor=actor))
    assert (end.actor_id, end.initiated_by) == (actor_id, initiated_by)


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


@pytest.mark.parametrize(
    "metadata",
    [
        *(pytest.param(nested(levels), id=f"{levels} levels") for levels in (100, 1000, 4000, 100_000)),
        pytest.param('{"a":' * 4000 + '"]}\\"{"' + "}" * 4000, id="objects, and brackets in a string"),
        pytest.param("1e400", id="larger than a float"),
        pytest.param("9" * 5000, id="5,000 digits"),
        pytest.param("-" + "9" * 30, id="more than 64 bits"),
        pytest.param("0." + "3" * 5000, id="5,000 decimals"),
        pytest.param("[NaN, Infinity, -Infinity]", id="NaN"),
        pytest.param(r'"\ud800"', id="a lone surrogate"),
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


NOT_AN_ID = "is not 1-128 visible ASCII characters"


@pytest.mark.parametrize("value", [None, "", "two words", "u" * 129, "é", "line\n", 1, True, [], {}])
@pytest.mark.parametrize("field", ["id", "user_id"])
def test_an_id_is_1_to_128_visible_ascii_characters(field: str, value: Any) -> None:
    assert refusal(encoded(session_event(**{field: value}))) == f"data.{field} {NOT_AN_ID}"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"data": "secret"}, "data is not a JSON object"),
        ({"data": ["secret"]}, "data is not a JSON object"),
        ({"type": 1}, "type is not a string"),
        ({"type": True}, "type is not a string"),
        ({"type": ["session.ended"]}, "type is not a string"),
        ({"type": None}, "type is not a string"),
        ({"data": None}, "data is not a JSON object"),
    ],
)
def test_a_mistyped_field_is_named_and_never_shown(change: dict[str, Any], text: str) -> None:
    assert refusal(encoded(session_event() | change)) == text


@pytest.mark.parametrize("value", [None, "1716883200", True, {}, -1, 253_402_300_800_000, 1e300, 10**400, math.nan])
def test_any_other_time_is_refused(value: Any) -> None:
    text = refusal(encoded(session_event() | {"timestamp": value}))
    assert text == "timestamp is not a time in seconds or milliseconds since 1970"


@pytest.mark.parametrize("value", [None, [], "text", 1, True])
def test_a_body_that_is_no_object_is_refused(value: Any) -> None:
    assert refusal(encoded(value)) == "the body is not a JSON object"


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"not json", b'{"type": "session.ended"} x', b"[" * 2000, b"]" * 2000, b"[" * 2000 + b"]" * 3000],
    ids=["nothing", "half", "text", "more behind", "open", "closed", "closed too often"],
)
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
    assert read(headers=standard(signed(BODY))) == read()


def test_under_both_names_those_of_svix_count() -> None:
    assert read(headers=standard(signed(BODY, secret=OTHER_SECRET)) | signed(BODY)) == read()
    assert refusal(headers=standard(signed(BODY)) | signed(BODY, secret=OTHER_SECRET)) == NO_MATCH


@pytest.mark.parametrize("name", ["webhook-timestamp", "webhook-signature"])
def test_what_is_wrong_under_the_other_names_is_named_so(name: str) -> None:
    headers = standard(signed(BODY))
    assert refusal(headers=headers | {name: "\t"}) == f"the header {name} is malformed"
    del headers[name]
    assert refusal(headers=headers) == f"the header {name} is missing"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("svix-id", ""),
        ("svix-id", "m" * 129),
        ("svix-id", "two words"),
        ("svix-id", "msg_\xff"),
        ("svix-id", "msg\n"),
        ("svix-timestamp", ""),
        ("svix-timestamp", "soon"),
        ("svix-timestamp", "1.5e9"),
        ("svix-timestamp", "nan"),
        ("svix-timestamp", "-1"),
        ("svix-timestamp", "+1"),
        ("svix-timestamp", " 1"),
        ("svix-timestamp", "1\n"),
        ("svix-timestamp", "01"),
        ("svix-timestamp", "1" * 13),
        ("svix-timestamp", "9" * 400),
        ("svix-timestamp", "²"),
        ("svix-signature", ""),
        ("svix-signature", "v1,\xff"),
        ("svix-signature", "v1,é"),
        ("svix-signature", "v1,\t"),
        ("svix-signature", "v" * 4097),
    ],
)
def test_a_malformed_header_is_named(name: str, value: str) -> None:
    assert refusal(headers=signed(BODY) | {name: value}) == f"the header {name} is malformed"


@pytest.mark.parametrize(
    "sent",
    [
        "v1",
        "v1,",
        "v1,a",
        "v1,a,b",
        "v1,====",
        "v1,not base64",
        "v1," + "A" * 44,
        "v1," + "A" * 43 + "=",
        "v2," + "A" * 43 + "=",
        "v1a," + "A" * 86 + "==",
        ",",
        " ",
        "A" * 4096,
        " " * 4096,
        "v1,AAAA v1,AAAA",
    ],
)
def test_what_is_no_signature_of_it_is_refused(sent: str) -> None:
    assert refusal(headers=signed(BODY) | {"svix-signature": sent}) == NO_MATCH


@pytest.mark.parametrize("secrets", [(SECRET, OTHER_SECRET), (OTHER_SECRET, SECRET)], ids=["first", "second"])
def test_while_one_is_replaced_either_secret_is_enough(secrets: tuple[str, str]) -> None:
    reader = WebhookReader(secrets)
    for secret in secrets:
        assert reader.read(read_delivery(raw(signed(BODY, secret=secret))), BODY) is not None
    with pytest.raises(WebhookRefusedError, match=NO_MATCH[:20]):
        reader.read(read_delivery(raw(signed(BODY, secret=THIRD_SECRET))), BODY)


def test_another_secret_is_refused() -> None:
    assert refusal(headers=signed(BODY, secret=OTHER_SECRET)) == NO_MATCH


@pytest.mark.parametrize("changed", [b"\0" + BODY[1:], BODY[:-1] + b"]", BODY + b"\n", BODY[:-1], b" " + BODY, b""])
def test_another_body_is_refused_and_not_even_parsed(changed: bytes) -> None:
    assert refusal(changed, signed(BODY)) == NO_MATCH


def test_id_and_time_are_signed_too() -> None:
    assert refusal(headers=signed(BODY) | {"svix-id": "msg_other"}) == NO_MATCH
    assert refusal(headers=signed(BODY) | {"svix-timestamp": str(int(time.time()) - 1)}) == NO_MATCH


@pytest.mark.parametrize(("age", "text"), [(320, "old"), (10**9, "old"), (-320, "in the future"), (-(10**9), "in the")])
def test_beyond_5_minutes_a_good_signature_is_refused(age: float, text: str) -> None:
    assert refusal(headers=signed(BODY, age=age)).startswith(f"the signature is more than 5 minutes {text}")


@pytest.mark.parametrize("age", [280, -280])
def test_within_5_minutes_it_is_taken(age: float) -> None:
    assert read(headers=signed(BODY, age=age)) is not None


@pytest.mark.parametrize("timestamp", ["1", "999999999999"])
def test_a_time_that_is_no_date_is_refused(timestamp: str) -> None:
    assert "the signature is more than 5 minutes" in refusal(headers=signed(BODY) | {"svix-timestamp": timestamp})


@pytest.mark.parametrize(("place", "taken"), [(0, True), (MAX_SIGNATURES - 1, True), (MAX_SIGNATURES, False)])
def test_one_good_signature_of_the_first_eight_is_enough(place: int, taken: bool) -> None:
    headers = signed(BODY)
    sent = ["v1," + "A" * 43 + "="] * MAX_SIGNATURES
    sent.insert(place, headers["svix-signature"])
    headers["svix-signature"] = " ".join(sent)
    assert read(headers=headers) if taken else refusal(headers=headers) == NO_MATCH


@pytest.mark.parametrize("beside", ["v1a,abc", "v1", "v1,a,b,c", "", "v2," + "A" * 43 + "="])
def test_what_stands_beside_a_good_signature_does_no_harm(beside: str) -> None:
    headers = signed(BODY)
    assert read(headers=headers | {"svix-signature": f"{beside} {headers['svix-signature']}"}) is not None


def test_what_is_not_utf_8_is_refused_whatever_its_signature() -> None:
    body = BODY.replace(NAME.encode(), b"\xff\xfe")
    assert refusal(body, signed(body)) == NO_MATCH


_headers = st.dictionaries(
    st.sampled_from([b"svix-id", b"svix-timestamp", b"svix-signature"]),
    st.lists(
        st.binary(max_size=60)
        | st.sampled_from([MESSAGE_ID.encode(), b"1700000000", b"v1,", b"v1,AAAA v1,", b"v1,\xff="]),
        max_size=2,
    ),
)


@given(headers=_headers, body=st.binary(max_size=60))
def test_whatever_arrives_is_refused_and_nothing_else_is_raised(headers: dict[bytes, list[bytes]], body: bytes) -> None:
    with pytest.raises(WebhookRefusedError):
        READER.read(read_delivery(headers), body)

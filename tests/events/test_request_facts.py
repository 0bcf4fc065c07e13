from ipaddress import ip_address

import pytest

from service.events.request import ClientAddress, Headers, RequestFacts, RequestHead, client_network, trace_id
from service.events.types import Facts

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


@pytest.mark.parametrize(
    "traceparent",
    [
        pytest.param(f"00-{TRACE}-{PARENT}-01", id="as in the standard"),
        pytest.param(f"00-{TRACE}-{PARENT}-00", id="not sampled"),
        pytest.param(f"cc-{TRACE}-{PARENT}-01", id="a later version"),
        pytest.param(f"cc-{TRACE}-{PARENT}-01-what-the-future-adds", id="a later version with more behind"),
        pytest.param(f" 00-{TRACE}-{PARENT}-01\t", id="white space around"),
    ],
)
def test_the_trace_id_of_a_valid_traceparent_is_taken(traceparent: str) -> None:
    assert trace_id({b"traceparent": [traceparent.encode()]}) == TRACE


@pytest.mark.parametrize(
    "traceparent",
    [
        pytest.param("", id="empty"),
        pytest.param(TRACE, id="only the trace id"),
        pytest.param(f"00-{'0' * 32}-{PARENT}-01", id="a trace id of zeros"),
        pytest.param(f"00-{TRACE}-{'0' * 16}-01", id="a parent id of zeros"),
        pytest.param(f"ff-{TRACE}-{PARENT}-01", id="the forbidden version"),
        pytest.param(f"00-{TRACE}-{PARENT}-01-more", id="version 00 with more behind"),
        pytest.param(f"cc-{TRACE}-{PARENT}-01more", id="a later version without a dash"),
        pytest.param(f"00-{TRACE.upper()}-{PARENT}-01", id="upper case"),
        pytest.param(f"00-{TRACE}-{PARENT}", id="no flags"),
        pytest.param(f"00-{TRACE}0-{PARENT}-01", id="one digit more"),
        pytest.param(f"0-{TRACE}-{PARENT}-01", id="a short version"),
        pytest.param(f"00-{TRACE[:-1]}g-{PARENT}-01", id="no hexadecimal digit"),
        pytest.param(f"00-{TRACE}\n-{PARENT}-01", id="a newline inside"),
        pytest.param("\xff\xfe", id="not ASCII"),
    ],
)
def test_an_invalid_traceparent_gives_no_trace_id(traceparent: str) -> None:
    assert trace_id({b"traceparent": [traceparent.encode("latin-1")]}) is None


def test_without_a_traceparent_there_is_no_trace_id() -> None:
    assert trace_id({}) is None


def test_two_traceparents_give_no_trace_id() -> None:
    """Which one is right cannot be told (W3C Trace Context, section 3.2)."""
    assert trace_id({b"traceparent": [f"00-{TRACE}-{PARENT}-01".encode()] * 2}) is None


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.77", "203.0.113.0"),
        ("127.0.0.1", "127.0.0.0"),
        ("255.255.255.255", "255.255.255.0"),
        ("2001:db8:1234:5678:9abc:def0:1234:5678", "2001:db8:1234::"),
        ("2001:db8::1", "2001:db8::"),
        ("::1", "::"),
    ],
)
def test_an_address_is_cut_to_its_network(address: str, network: str) -> None:
    assert client_network(ip_address(address)) == network


def facts(headers: Headers | None = None, *, peer: str | None = None) -> Facts:
    """What a request tells where everything is recorded."""
    find = RequestFacts(
        origins=["https://app.example.com"],
        client_address=ClientAddress(()),
        with_client_ip=True,
        with_user_agent=True,
    )
    return find(RequestHead(headers or {}, "r", peer))


@pytest.mark.parametrize(
    ("sent", "recorded"),
    [(b"https://app.example.com", "https://app.example.com"), (b"https://evil.example", None), (None, None)],
)
def test_only_an_allowed_origin_is_recorded(sent: bytes | None, recorded: str | None) -> None:
    found = facts({} if sent is None else {b"origin": [sent]})
    assert (found["request_id"], found["origin"]) == ("r", recorded)


def test_a_callers_network_is_recorded() -> None:
    assert facts(peer="203.0.113.77")["client_ip"] == "203.0.113.0"


def test_a_caller_without_an_address_is_not_recorded() -> None:
    assert "client_ip" not in facts()


@pytest.mark.parametrize(
    ("sent", "recorded"),
    [
        pytest.param(b"Mozilla/5.0 (X11; Linux)", "Mozilla/5.0 (X11; Linux)", id="as it is"),
        pytest.param(b"", "", id="empty"),
        pytest.param(b"a" * 300, "a" * 256, id="cut to 256 characters"),
        pytest.param(b"a\x00b\tc\x7f\x1b[31m", "a?b?c??[31m", id="control characters"),
        pytest.param(b"caf\xe9 \xff", "caf? ?", id="not ASCII"),
        pytest.param(b'"quoted\\"', '"quoted\\"', id="what JSON escapes"),
    ],
)
def test_a_user_agent_is_cut_and_made_printable(sent: bytes, recorded: str) -> None:
    assert facts({b"user-agent": [sent]})["user_agent"] == recorded


def test_of_two_user_agents_the_first_is_recorded() -> None:
    assert facts({b"user-agent": [b"one", b"two"]})["user_agent"] == "one"


def test_without_a_user_agent_there_is_none() -> None:
    assert "user_agent" not in facts()

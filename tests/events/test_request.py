"""What an event says about its request: whatever was sent, it is bounded, printable and nobody else's."""

from collections.abc import Sequence
from ipaddress import ip_address

import pytest

from service.events.request import MAX_HOPS, RequestFacts, RequestHead, client_network, read_head, trace_id

PROXIES = ("10.0.0.0/8", "2001:db8:ffff::/48")
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


def test_the_values_of_a_header_stand_together_in_their_order() -> None:
    sent = [(b"cookie", b"a=1"), (b"host", b"service"), (b"cookie", b"b=2")]
    found = read_head({"type": "http", "headers": sent, "client": None})
    assert found.headers == {b"cookie": [b"a=1", b"b=2"], b"host": [b"service"]}
    assert found.peer is None


# --- The client's address --------------------------------------------------------------------------------------------


def address(peer: str | None, *forwarded_for: str, networks: Sequence[str] = PROXIES) -> str | None:
    headers = {b"x-real-ip": [b"192.0.2.1"], b"x-forwarded-for": [value.encode("latin-1") for value in forwarded_for]}
    facts = RequestFacts(origins=(), proxies=networks, with_client_ip=False, with_user_agent=False)
    found = facts.client_address(RequestHead(headers, "r", peer))
    return None if found is None else str(found)


@pytest.mark.parametrize(
    ("peer", "found"),
    [
        ("203.0.113.77", "203.0.113.77"),
        ("2001:DB8::1", "2001:db8::1"),
        ("::ffff:203.0.113.77", "203.0.113.77"),
        ("fe80::1%eth0", "fe80::1"),
        (None, None),
        ("testclient", None),
    ],
)
def test_a_stranger_cannot_choose_its_address(peer: str | None, found: str | None) -> None:
    assert address(peer) == address(peer, "198.51.100.1") == found


def test_no_proxy_is_believed_where_none_is_configured() -> None:
    assert address("10.0.0.1", "203.0.113.77", networks=()) == "10.0.0.1"


@pytest.mark.parametrize("peer", ["10.0.0.1", "::ffff:10.0.0.1", "2001:db8:ffff::1"])
@pytest.mark.parametrize(
    ("forwarded_for", "found"),
    [
        pytest.param(["198.51.100.1, 203.0.113.77"], "203.0.113.77", id="what the client itself sent is left of it"),
        pytest.param(["203.0.113.77, 10.1.1.1:443,10.2.2.2"], "203.0.113.77", id="behind several proxies"),
        pytest.param(["198.51.100.1", "203.0.113.77", "::ffff:10.1.1.1"], "203.0.113.77", id="in several headers"),
        pytest.param([" , ,203.0.113.77,\t, "], "203.0.113.77", id="empty elements"),
        pytest.param(["203.0.113.77:51234"], "203.0.113.77", id="IPv4 with a port"),
        pytest.param(["[2001:db8::7]:51234"], "2001:db8::7", id="IPv6 with a port"),
        pytest.param(["fe80::1%\x1b[31m"], "fe80::1", id="a zone of any text"),
        pytest.param(["junk, 203.0.113.77"], "203.0.113.77", id="junk that the client sent"),
    ],
)
def test_behind_a_proxy_it_is_the_rightmost_that_is_no_proxy(peer: str, forwarded_for: list[str], found: str) -> None:
    assert address(peer, *forwarded_for) == found


@pytest.mark.parametrize(
    "entry", ['evil\x1b[31m"}{', "_hidden", "203.0.113.77:", "[2001:db8::7", "203.0.113.077", "1" * 5000]
)
def test_an_entry_that_is_no_address_makes_the_caller_unknown(entry: str) -> None:
    assert address("10.0.0.1", f"203.0.113.77, {entry}, 10.1.1.1") is None


def test_of_a_long_list_only_the_end_is_looked_at() -> None:
    """15,000 addresses, every one of them a proxy's, would hold the event loop."""
    assert address("10.0.0.1", ",".join(["203.0.113.77"] + ["10.0.0.1"] * MAX_HOPS)) == "203.0.113.77"
    assert address("10.0.0.1", ",".join(["203.0.113.77"] + ["10.0.0.1"] * (MAX_HOPS + 1))) is None


@pytest.mark.parametrize(
    ("whole", "network"),
    [("203.0.113.77", "203.0.113.0"), ("2001:db8:1234:5678:9abc:def0:1234:5678", "2001:db8:1234::"), ("::1", "::")],
)
def test_an_address_is_cut_to_its_network(whole: str, network: str) -> None:
    assert client_network(ip_address(whole)) == network


# --- The trace id ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "traceparent",
    [
        pytest.param(f"00-{TRACE}-{PARENT}-01", id="as in the standard"),
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
        pytest.param(f"00-{'0' * 32}-{PARENT}-01", id="a trace id of zeros"),
        pytest.param(f"00-{TRACE}-{'0' * 16}-01", id="a parent id of zeros"),
        pytest.param(f"00-{TRACE}-{PARENT}-01-more", id="version 00 with more behind"),
        pytest.param(f"cc-{TRACE}-{PARENT}-01more", id="a later version without a dash"),
        pytest.param(f"00-{TRACE.upper()}-{PARENT}-01", id="upper case"),
        pytest.param(f"00-{TRACE}\n-{PARENT}-01", id="a newline inside"),
        pytest.param("\xff\xfe", id="not ASCII"),
    ],
)
def test_an_invalid_traceparent_gives_no_trace_id(traceparent: str) -> None:
    assert trace_id({b"traceparent": [traceparent.encode("latin-1")]}) is None


def test_two_traceparents_give_no_trace_id() -> None:
    """Which one is right cannot be told (W3C Trace Context, section 3.2)."""
    assert trace_id({b"traceparent": [f"00-{TRACE}-{PARENT}-01".encode()] * 2}) is None


# --- The facts -------------------------------------------------------------------------------------------------------


RECORD_ALL = RequestFacts(origins=(), proxies=(), with_client_ip=True, with_user_agent=True)


def test_a_request_that_tells_nothing_has_no_facts() -> None:
    assert RECORD_ALL(RequestHead({}, "r", None)) == {"request_id": "r", "trace_id": None, "origin": None}


@pytest.mark.parametrize(
    ("sent", "recorded"),
    [
        pytest.param([b'Mozilla/5.0 (X11; "Linux\\")'], 'Mozilla/5.0 (X11; "Linux\\")', id="as it is"),
        pytest.param([b"a" * 300], "a" * 256, id="cut to 256 characters"),
        pytest.param([b"a\x00b\tc\x7f\x1b[31m"], "a?b?c??[31m", id="control characters"),
        pytest.param([b"caf\xe9 \xff"], "caf? ?", id="not ASCII"),
        pytest.param([b"one", b"two"], "one", id="the first of two"),
    ],
)
def test_a_user_agent_is_cut_and_made_printable(sent: list[bytes], recorded: str) -> None:
    assert RECORD_ALL(RequestHead({b"user-agent": sent}, "r", None))["user_agent"] == recorded

import ipaddress
from collections.abc import Sequence

import pytest

from service.events.request import MAX_HOPS, ClientAddress, RequestHead

PROXIES = ("10.0.0.0/8", "2001:db8:ffff::/48")


def address(
    peer: str | None, *forwarded_for: str, networks: Sequence[str] = PROXIES, name: str = "x-forwarded-for"
) -> str | None:
    headers = {b"host": [b"service"], name.encode(): [value.encode("latin-1") for value in forwarded_for]}
    found = ClientAddress(networks)(RequestHead(headers, "r", peer))
    assert found is None or isinstance(found, ipaddress.IPv4Address | ipaddress.IPv6Address)
    return None if found is None else str(found)


@pytest.mark.parametrize(
    ("peer", "found"),
    [
        ("203.0.113.77", "203.0.113.77"),
        ("2001:DB8::1", "2001:db8::1"),
        ("::ffff:203.0.113.77", "203.0.113.77"),
        ("::ffff:cb00:714d", "203.0.113.77"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_without_a_proxy_it_is_the_peer(peer: str, found: str) -> None:
    assert address(peer) == found


@pytest.mark.parametrize(
    "peer",
    ["", "testclient", "203.0.113", "203.0.113.77, 10.0.0.1", "203.0.113.77:8080", "[::1]", "1" * 5000, "127.0.0.1\n"],
)
def test_a_peer_that_is_no_address_has_none(peer: str) -> None:
    assert address(peer) is None


def test_a_request_over_a_unix_socket_has_no_address() -> None:
    assert address(None, "203.0.113.77") is None


def test_a_stranger_cannot_choose_its_address() -> None:
    assert address("203.0.113.77", "198.51.100.1") == "203.0.113.77"


def test_no_proxy_is_believed_where_none_is_configured() -> None:
    assert address("10.0.0.1", "203.0.113.77", networks=()) == "10.0.0.1"


@pytest.mark.parametrize("peer", ["10.0.0.1", "::ffff:10.0.0.1", "2001:db8:ffff::1"])
def test_a_proxy_is_believed(peer: str) -> None:
    assert address(peer, "203.0.113.77") == "203.0.113.77"


@pytest.mark.parametrize(
    ("forwarded_for", "found"),
    [
        pytest.param(["203.0.113.77"], "203.0.113.77", id="one"),
        pytest.param(["198.51.100.1, 203.0.113.77"], "203.0.113.77", id="what the client itself sent is left of it"),
        pytest.param(["203.0.113.77, 10.1.1.1,10.2.2.2"], "203.0.113.77", id="behind several proxies"),
        pytest.param(["198.51.100.1", "203.0.113.77", "10.1.1.1"], "203.0.113.77", id="in several headers"),
        pytest.param(["10.1.1.1, 10.2.2.2"], "10.1.1.1", id="nobody but proxies"),
        pytest.param([""], "10.0.0.1", id="empty"),
        pytest.param([" , ,203.0.113.77,\t, "], "203.0.113.77", id="empty elements"),
        pytest.param(["203.0.113.77:51234"], "203.0.113.77", id="IPv4 with a port"),
        pytest.param(["[2001:db8::7]:51234"], "2001:db8::7", id="IPv6 with a port"),
        pytest.param(["[2001:db8::7]"], "2001:db8::7", id="IPv6 in brackets"),
        pytest.param(["2001:db8::7"], "2001:db8::7", id="IPv6"),
        pytest.param(["203.0.113.77, ::ffff:10.1.1.1"], "203.0.113.77", id="a proxy's IPv4 address as IPv6"),
        pytest.param(["203.0.113.77, 10.1.1.1:443"], "203.0.113.77", id="a proxy's address with a port"),
        pytest.param(["fe80::1%\x1b[31m"], "fe80::1", id="a zone of any text"),
        pytest.param(["junk, 203.0.113.77"], "203.0.113.77", id="junk that the client sent"),
    ],
)
def test_behind_a_proxy_it_is_the_rightmost_address_that_is_no_proxy(forwarded_for: list[str], found: str) -> None:
    assert address("10.0.0.1", *forwarded_for) == found


@pytest.mark.parametrize(
    "entry",
    [
        'evil\x1b[31m"}{',
        "unknown",
        "_hidden",
        "203.0.113.77:",
        "203.0.113.77:123456",
        "203.0.113.77:80:80",
        "[2001:db8::7",
        "[2001:db8::7]80",
        "[]",
        "203.0.113.077",
        "203.0.113.77/32",
        "\xb2\xb3.0.0.1",
        "1" * 5000,
    ],
)
def test_an_entry_that_is_no_address_makes_the_caller_unknown(entry: str) -> None:
    assert address("10.0.0.1", f"203.0.113.77, {entry}, 10.1.1.1") is None


def test_of_a_long_list_only_the_end_is_looked_at() -> None:
    """15,000 addresses, every one of them a proxy's, would hold the event loop."""
    assert address("10.0.0.1", ",".join(["203.0.113.77"] + ["10.0.0.1"] * (MAX_HOPS - 1))) == "203.0.113.77"
    assert address("10.0.0.1", ",".join(["203.0.113.77"] + ["10.0.0.1"] * MAX_HOPS)) == "203.0.113.77"
    assert address("10.0.0.1", ",".join(["203.0.113.77"] + ["10.0.0.1"] * (MAX_HOPS + 1))) is None


def test_other_headers_say_nothing() -> None:
    assert address("10.0.0.1", "203.0.113.77", name="x-real-ip") == "10.0.0.1"

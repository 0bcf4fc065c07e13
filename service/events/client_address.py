"""Whose request it is: the caller's address, also behind proxies."""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from service.events.request_head import RequestHead

MAX_HOPS = 32
"""Entries of ``X-Forwarded-For`` that are looked at; a request has not passed more proxies."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# What proxies put around an address: `203.0.113.7:51234`, `[2001:db8::1]:51234`, `[2001:db8::1]`.
_with_port = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)(?=:))(?::[0-9]{1,5})?").fullmatch


class ClientAddress:
    """Finds the address of a request's caller.

    It is the peer's, unless the peer is a proxy that is believed. Then it is the rightmost address in the
    ``X-Forwarded-For`` headers that is not such a proxy's: what stands left of it, its sender may have made up.

    Args:
        networks: the proxies that are believed, as networks.
    """

    def __init__(self, networks: Sequence[str]) -> None:
        self._proxies = [ipaddress.ip_network(network) for network in networks]

    def __call__(self, head: RequestHead) -> Address | None:
        """Give the address, or None where there is none, or something else in its place."""
        address = None if head.peer is None else _address_of_peer(head.peer)
        for entry in _forwarded_for(head.headers.get(b"x-forwarded-for", ())):
            if address is None or not any(address in network for network in self._proxies):
                break
            match = _with_port(entry)
            address = parse_address(match[1] or match[2] if match else entry)
        return address


def _forwarded_for(values: Sequence[bytes]) -> Iterable[str]:
    """The entries of all ``X-Forwarded-For`` headers, the last one first; empty ones do not count (RFC 9110, 5.6.1)."""
    text = b",".join(values).decode("latin-1")
    # What is left of so many is one entry, and no address.
    entries = (entry.strip(" \t") for entry in reversed(text.rsplit(",", MAX_HOPS)))
    return filter(None, entries)


def parse_address(text: str) -> Address | None:
    """An address, or None; one of IPv4 written as IPv6 (RFC 4291, 2.5.5.2) as what it is, any without its zone."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        # A zone may be any text, and says something only on the machine that it comes from.
        return address.ipv4_mapped or ipaddress.IPv6Address(int(address))
    return address


_address_of_peer = lru_cache(1024)(parse_address)  # these come from the kernel, so they are short

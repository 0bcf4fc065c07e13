"""What an event says about the request around it: its head, read once, its caller, and the facts for the line."""

import ipaddress
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import uuid_utils
from starlette.types import Scope

from service.events.types import Facts

Headers = Mapping[bytes, Sequence[bytes]]
"""The values of each header by its name in lower case, in the order in which they were sent."""
NONE: Sequence[bytes] = (b"",)
"""In place of the values of a header that was not sent, where an empty one means the same."""
MAX_HOPS = 32
"""Entries of ``X-Forwarded-For`` that are looked at; a request has not passed more proxies."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# What proxies put around an address: `203.0.113.7:51234`, `[2001:db8::1]:51234`, `[2001:db8::1]`.
_with_port = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)(?=:))(?::[0-9]{1,5})?").fullmatch
USER_AGENT_MAX_LENGTH = 256

# W3C Trace Context, section 3.2: version-traceid-parentid-flags; a later version may append more.
_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
_NOT_PRINTABLE = re.compile(r"[^ -~]")
_is_usable_id = re.compile(rb"[!-~]{1,128}").fullmatch


class RequestHead(NamedTuple):
    """What is looked at in a request's head, read once."""

    headers: Headers
    request_id: str
    """Its ``X-Request-ID`` when that is 1-128 visible ASCII characters, else a new UUIDv7."""
    peer: str | None
    """The address at the other end of the connection; None where the server tells none."""


def read_head(scope: Scope) -> RequestHead:
    """Read the head of an ASGI request or WebSocket."""
    headers: dict[bytes, list[bytes]] = {}
    for name, value in scope["headers"]:
        if name in headers:
            headers[name].append(value)
        else:
            headers[name] = [value]
    sent = headers.get(b"x-request-id", NONE)[0]
    request_id = sent.decode("ascii") if _is_usable_id(sent) else str(uuid_utils.uuid7())
    peer = scope.get("client")
    return RequestHead(headers, request_id, peer[0] if peer else None)


def _forwarded_for(values: Sequence[bytes]) -> Iterable[str]:
    """The entries of all ``X-Forwarded-For`` headers, the last one first; empty ones do not count (RFC 9110, 5.6.1)."""
    entries = b",".join(values).decode("latin-1").rsplit(",", MAX_HOPS)  # what is left of so many is no address
    return filter(None, (entry.strip(" \t") for entry in reversed(entries)))


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


class RequestFacts:
    """Finds what a request tells its event. Of ``Origin`` headers only the allowed ``origins`` are recorded."""

    def __init__(
        self, *, origins: Collection[str], proxies: Sequence[str], with_client_ip: bool, with_user_agent: bool
    ) -> None:
        self._origins = {origin.encode("ascii"): origin for origin in origins}
        self._proxies = [ipaddress.ip_network(network) for network in proxies]
        self._with_client_ip = with_client_ip
        self._with_user_agent = with_user_agent

    def __call__(self, head: RequestHead) -> Facts:
        """Give the facts, each checked and bounded."""
        headers = head.headers
        facts: Facts = {
            "request_id": head.request_id,
            "trace_id": trace_id(headers) if b"traceparent" in headers else None,
            "origin": self._origins.get(headers.get(b"origin", NONE)[0]),
        }
        if self._with_client_ip and (address := self.client_address(head)) is not None:
            facts["client_ip"] = client_network(address)
        if self._with_user_agent and b"user-agent" in headers:
            facts["user_agent"] = printable(headers[b"user-agent"][0].decode("latin-1"))
        return facts

    def client_address(self, head: RequestHead) -> Address | None:
        """Give the address of a request's caller, or None where there is none, or something else in its place.

        It is the peer's, unless the peer is a proxy that is believed. Then it is the rightmost address in the
        ``X-Forwarded-For`` headers that is not such a proxy's: what stands left of it, its sender may have made up.
        """
        address = None if head.peer is None else _address_of_peer(head.peer)
        for entry in _forwarded_for(head.headers.get(b"x-forwarded-for", ())):
            if address is None or not any(address in network for network in self._proxies):
                break
            match = _with_port(entry)
            address = parse_address(match[1] or match[2] if match else entry)
        return address


def trace_id(headers: Headers) -> str | None:
    """Give the trace id of a valid W3C ``traceparent``, else None."""
    values = headers.get(b"traceparent", ())
    match = _TRACEPARENT.fullmatch(values[0].decode("latin-1").strip()) if len(values) == 1 else None
    if match is None or (match[1] == "00" and match[3]):
        return None
    return match[2]


def client_network(address: Address) -> str:
    """Give an address cut to its /24 (IPv4) or /48 (IPv6) network."""
    length = 24 if address.version == 4 else 48  # noqa: PLR2004 - the IP version
    return str(ipaddress.ip_network((address.packed, length), strict=False).network_address)


def printable(user_agent: str) -> str:
    """Give a User-Agent cut to 256 characters; what is not printable ASCII becomes a question mark."""
    return _NOT_PRINTABLE.sub("?", user_agent[:USER_AGENT_MAX_LENGTH])

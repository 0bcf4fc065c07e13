"""What an event says about the request around it, each value checked and bounded."""

import ipaddress
import re

from starlette.requests import Request

from service.endpoints.state import State

USER_AGENT_MAX_LENGTH = 256

# W3C Trace Context, section 3.2: version-traceid-parentid-flags; a later version may append more.
_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
_NOT_PRINTABLE = re.compile(r"[^ -~]")


def trace_id(request: Request[State]) -> str | None:
    """Give the trace id of a valid W3C ``traceparent``, else None."""
    values = request.headers.getlist("traceparent")
    match = _TRACEPARENT.fullmatch(values[0].strip()) if len(values) == 1 else None
    if match is None or (match[1] == "00" and match[3]):
        return None
    return match[2]


def client_address(request: Request[State]) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Give the caller's address, or None when it is no address."""
    try:
        return ipaddress.ip_address(request.client.host if request.client else "")
    except ValueError:
        return None


def client_network(request: Request[State]) -> str | None:
    """Give the caller's address cut to its /24 (IPv4) or /48 (IPv6) network, or None when it is no address."""
    address = client_address(request)
    if address is None:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    length = 24 if address.version == 4 else 48  # noqa: PLR2004 - the IP version
    return str(ipaddress.ip_network((address.packed, length), strict=False).network_address)


def user_agent(request: Request[State]) -> str | None:
    """Give the User-Agent cut to 256 characters; what is not printable ASCII becomes a question mark."""
    value = request.headers.get("user-agent")
    return None if value is None else _NOT_PRINTABLE.sub("?", value[:USER_AGENT_MAX_LENGTH])

"""What an event says about the request around it, each value checked and bounded."""

import ipaddress
import re

from starlette.requests import Request

from service.endpoints.client import Address
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


def client_network(address: Address | None) -> str | None:
    """Give an address cut to its /24 (IPv4) or /48 (IPv6) network, or None where there is none."""
    if address is None:
        return None
    length = 24 if address.version == 4 else 48  # noqa: PLR2004 - the IP version
    return str(ipaddress.ip_network((address.packed, length), strict=False).network_address)


def user_agent(request: Request[State]) -> str | None:
    """Give the User-Agent cut to 256 characters; what is not printable ASCII becomes a question mark."""
    value = request.headers.get("user-agent")
    return None if value is None else _NOT_PRINTABLE.sub("?", value[:USER_AGENT_MAX_LENGTH])

"""What an event says about the request around it, each value checked and bounded."""

import ipaddress
import re
from collections.abc import Collection

from service.events.client_address import Address, ClientAddress
from service.events.request_head import NONE, Headers, RequestHead
from service.events.types import Facts

USER_AGENT_MAX_LENGTH = 256

# W3C Trace Context, section 3.2: version-traceid-parentid-flags; a later version may append more.
_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
_NOT_PRINTABLE = re.compile(r"[^ -~]")


class RequestFacts:
    """Finds what a request tells its event.

    Args:
        origins: the allowed origins; another ``Origin`` header is not recorded.
        client_address: finds the caller's address.
        with_client_ip: record the caller's network.
        with_user_agent: record the User-Agent.
    """

    def __init__(
        self,
        *,
        origins: Collection[str],
        client_address: ClientAddress,
        with_client_ip: bool,
        with_user_agent: bool,
    ) -> None:
        self._origins = {origin.encode("ascii"): origin for origin in origins}
        self._client_address = client_address
        self._with_client_ip = with_client_ip
        self._with_user_agent = with_user_agent

    def __call__(self, head: RequestHead) -> Facts:
        """Give the facts, each checked and bounded."""
        headers = head.headers
        facts: Facts = {
            "request_id": head.request_id,
            "trace_id": trace_id(headers),
            "origin": self._origins.get(headers.get(b"origin", NONE)[0]),
        }
        if self._with_client_ip and (address := self._client_address(head)) is not None:
            facts["client_ip"] = client_network(address)
        if self._with_user_agent and b"user-agent" in headers:
            facts["user_agent"] = printable(headers[b"user-agent"][0].decode("latin-1"))
        return facts


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

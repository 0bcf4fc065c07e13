"""Clerk's webhooks: whether one is from Clerk, and which session it says has ended.

Clerk delivers through Svix, by the rules of Standard Webhooks (standardwebhooks.com) under Svix's header names. Until a
webhook is answered with 2xx it is delivered again, with the same id, for about 27 hours (docs.svix.com/retries).
"""

import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from standardwebhooks import Webhook

from service.clerk.verdict import identifier_in, initiator_of

TOLERANCE = 300
"""Seconds between signing and arrival, as in the library."""
MILLISECONDS_FROM = 1e11
"""Larger times are in milliseconds, as in some of Clerk's webhooks; in seconds it would be after the year 5138."""
MAX_DEPTH = 100
"""Levels of JSON that are read where there are more than Python's parser takes. What is needed is in the first four."""
YEAR_10000 = 253_402_300_800
"""In seconds since 1970: from here on RFC 3339 cannot write a time."""

_CAUSES = {"session.ended": "ended", "session.removed": "removed", "session.revoked": "revoked"}
_HEADERS = {
    "id": re.compile(r"[!-~]{1,128}"),
    "timestamp": re.compile(r"[1-9][0-9]{0,11}"),
    "signature": re.compile(r"[ -~]{1,4096}"),
}
"""After ``svix-``, or after ``webhook-`` as Standard Webhooks has it: Svix sends under either."""
_STRING_BRACKET_OR_REST = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}"]|[^\[\]{}"]+', re.DOTALL)
_is_signature = re.compile(r"v1,[A-Za-z0-9+/]{43}=").fullmatch


class WebhookRefusedError(Exception):
    """A webhook is not from Clerk, or cannot be used. The text is one line for whoever configured it."""


class Delivery(NamedTuple):
    """The headers of a webhook, well-formed but not verified yet."""

    id: str
    """The same for each delivery of one webhook."""
    timestamp: str
    """When this delivery was signed, in seconds since 1970."""
    signature: str
    """Signatures, separated by spaces."""


@dataclass(frozen=True, slots=True)
class EndedSession:
    """A session that has ended, according to Clerk.

    Attributes:
        cause: ``ended``, ``removed`` or ``revoked``.
        org_id: the organisation that was active in it.
        actor_id: the impersonator; None also where it is not known who that was.
        initiated_by: ``user``, ``admin`` or ``agent``; None for one that was revoked, by whom Clerk does not say.
        ended_at: seconds since 1970.
        client_ip: of the request that ended it, as Clerk gives it, in any form.
        user_agent: of that request, likewise.
    """

    cause: str
    user_id: str
    session_id: str
    org_id: str | None
    actor_id: str | None
    initiated_by: str | None
    ended_at: float
    client_ip: str | None
    user_agent: str | None


def read_delivery(headers: Mapping[bytes, Sequence[bytes]]) -> Delivery:
    """Read the headers of a webhook; names are in lower case.

    Raises:
        WebhookRefusedError: one of the three is missing, sent twice or malformed.
    """
    found = []
    prefix = "webhook" if b"webhook-id" in headers and b"svix-id" not in headers else "svix"
    for suffix, form in _HEADERS.items():
        name = f"{prefix}-{suffix}"
        values = [value.decode("latin-1") for value in headers.get(name.encode("ascii"), ())]
        if len(values) != 1:
            problem = "was sent more than once" if values else "is missing"
            raise WebhookRefusedError(f"the header {name} {problem}")
        if form.fullmatch(values[0]) is None:
            raise WebhookRefusedError(f"the header {name} is malformed")
        found += values
    return Delivery(*found)


class WebhookReader:
    """Reads what Clerk has signed, and nothing else.

    Args:
        signing_secrets: the endpoint's, ``whsec_`` and base64; several while one is being replaced.
    """

    def __init__(self, signing_secrets: Iterable[str]) -> None:
        self._webhooks = [Webhook(secret) for secret in signing_secrets]

    def read(self, delivery: Delivery, body: bytes) -> EndedSession | None:
        """Return the session that has ended, or None if the webhook is about something else.

        Raises:
            WebhookRefusedError: it is not from Clerk, or lacks what it must say.
        """
        self._verify(delivery, body)
        # Only now: a stranger's bytes reach no parser.
        return _ended_session(_parse(body))

    def _verify(self, delivery: Delivery, body: bytes) -> None:
        headers = {
            "webhook-id": delivery.id,
            "webhook-timestamp": delivery.timestamp,
            # The library fails on what does not look like a signature.
            "webhook-signature": " ".join(filter(_is_signature, delivery.signature.split(" "))),
        }
        for webhook in self._webhooks:
            with suppress(Exception):  # whatever the library says about a stranger's bytes, it is not verified
                webhook.verify(body, headers, json_parse=False)
                return
        age = time.time() - int(delivery.timestamp)
        if abs(age) > TOLERANCE:
            side = "old" if age > 0 else "in the future"
            raise WebhookRefusedError(f"the signature is more than 5 minutes {side}")
        raise WebhookRefusedError(
            "no signature matches: is CLERK_WEBHOOK_SIGNING_SECRET that of this endpoint in Clerk's dashboard?"
        )


def _parse(body: bytes) -> object:
    """Parse JSON. What a user may put into the metadata that Clerk embeds must not cost the event, so any is taken."""
    try:
        try:
            # Whole numbers as floats, because Python refuses those of more than 4,300 digits.
            return json.loads(body, parse_int=float)
        except RecursionError:
            return json.loads(_without_deep_values(body.decode()), parse_int=float)
    except ValueError:
        raise WebhookRefusedError("the body is not JSON") from None


def _without_deep_values(text: str) -> str:
    """Put null for each object and array at ``MAX_DEPTH``."""
    kept, depth = [], 0
    for part in _STRING_BRACKET_OR_REST.findall(text):
        depth += part in "[{"
        if depth < MAX_DEPTH:
            kept.append(part)
        elif depth == MAX_DEPTH and part in "[{":
            kept.append("null")
        depth -= part in "]}"
    return "".join(kept)


def _ended_session(event: Any) -> EndedSession | None:  # noqa: ANN401 - JSON
    """Take the fields named here only; the user whom Clerk embeds is not among them."""
    kind = _member(event, "type")
    if not isinstance(kind, str):
        raise WebhookRefusedError("type is not a string")
    if kind not in _CAUSES:
        return None
    cause, data = _CAUSES[kind], event.get("data")
    for name in ("user_id", "id"):
        if identifier_in(data, name) is None:
            raise WebhookRefusedError(f"data.{name} is not 1-128 visible ASCII characters")
    actor = data.get("actor")
    request = _member(_member(event, "event_attributes"), "http_request")
    client_ip, user_agent = _member(request, "client_ip"), _member(request, "user_agent")
    return EndedSession(
        cause=cause,
        user_id=data["user_id"],
        session_id=data["id"],
        org_id=identifier_in(data, "last_active_organization_id"),
        actor_id=identifier_in(actor, "sub"),
        initiated_by=None if actor is None and cause == "revoked" else initiator_of(actor),
        ended_at=_seconds(event.get("timestamp")),
        client_ip=client_ip if isinstance(client_ip, str) else None,
        user_agent=user_agent if isinstance(user_agent, str) else None,
    )


def _member(value: object, name: str) -> object:
    return value.get(name) if isinstance(value, dict) else None


def _seconds(value: object) -> float:
    if isinstance(value, float):  # so is every number, see _parse
        seconds = value / 1000 if value >= MILLISECONDS_FROM else value
        if 0 <= seconds < YEAR_10000:
            return seconds
    raise WebhookRefusedError("timestamp is not a time in seconds or milliseconds since 1970")

"""Clerk's webhooks: whether one is Clerk's own, and which session it says has ended.

Clerk delivers through Svix, by the rules of Standard Webhooks (standardwebhooks.com) under Svix's header names. A
webhook is delivered again, with the same id, until it is answered with 2xx: at once and after 5 s, 5 min, 30 min, 2 h,
5 h, 10 h and 10 h (docs.svix.com/retries); somebody may also send it again by hand, at any time.
"""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson
from standardwebhooks import Webhook

from service.clerk.errors import WebhookRefusedError

MAX_SIGNATURES = 8
"""Signatures of one webhook that are looked at; while a secret is being replaced there are two."""
TOLERANCE = 300
"""Seconds that the signing may lie in the past or in the future; the library's, for telling what was wrong."""
MILLISECONDS_FROM = 1e11
"""A larger time is in milliseconds, as in some of Clerk's webhooks; in seconds it would be after the year 5138."""
YEAR_10000 = 253_402_300_800
"""In seconds since 1970: from here on RFC 3339 has no form for a time."""

_CAUSES = {"session.ended": "ended", "session.removed": "removed", "session.revoked": "revoked"}
_HEADERS = {
    b"svix-id": re.compile(r"[!-~]{1,128}"),
    b"svix-timestamp": re.compile(r"[1-9][0-9]{0,11}"),
    b"svix-signature": re.compile(r"[ -~]{1,4096}"),
}
_SIGNATURE = re.compile(r"v1,[A-Za-z0-9+/]{43}=")
_ID = re.compile(r"[!-~]{1,128}")
_MISSING = "is missing"


@dataclass(frozen=True, slots=True)
class Delivery:
    """What the headers of a webhook say, in the right form but not proven yet.

    Attributes:
        id: the same for each delivery of one webhook.
        timestamp: when this delivery was signed, in seconds since 1970.
        signature: signatures with a space between them.
    """

    id: str
    timestamp: str
    signature: str


@dataclass(frozen=True, slots=True)
class SessionEnd:
    """A session that has ended, by Clerk's word.

    Attributes:
        cause: ``ended``, ``removed`` or ``revoked``.
        user_id: whose session it was.
        session_id: the session.
        org_id: the organisation that was active in it.
        actor_id: the impersonator.
        ended_at: seconds since 1970.
        client_ip: from where the request came that ended it, as Clerk gives it; nothing is known of its form.
        user_agent: that request's, likewise.
    """

    cause: str
    user_id: str
    session_id: str
    org_id: str | None
    actor_id: str | None
    ended_at: float
    client_ip: str | None
    user_agent: str | None


def read_delivery(headers: Mapping[bytes, Sequence[bytes]]) -> Delivery:
    """Read headers, by their names in lower case, before anything is known of the body.

    Raises:
        WebhookRefusedError: one of the three is missing, comes twice or is malformed.
    """
    found: dict[bytes, str] = {}
    for name, form in _HEADERS.items():
        values = [value.decode("latin-1") for value in headers.get(name, ())]
        if len(values) != 1:
            problem = "was sent more than once" if values else _MISSING
            raise WebhookRefusedError(f"the header {name.decode()} {problem}")
        if form.fullmatch(values[0]) is None:
            raise WebhookRefusedError(f"the header {name.decode()} is malformed")
        found[name] = values[0]
    return Delivery(found[b"svix-id"], found[b"svix-timestamp"], found[b"svix-signature"])


class WebhookReader:
    """Reads what Clerk has signed, and nothing else.

    Args:
        signing_secret: the endpoint's, ``whsec_`` and base64.
    """

    def __init__(self, signing_secret: str) -> None:
        self._webhook = Webhook(signing_secret)

    def read(self, delivery: Delivery, body: bytes) -> SessionEnd | None:
        """Give the session that has ended, or None where the webhook is about something else.

        Raises:
            WebhookRefusedError: it is not Clerk's, or does not say what it must.
        """
        self._verify(delivery, body)
        # Not before the signature holds: a stranger's bytes reach no parser.
        try:
            event = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise WebhookRefusedError("the body is not JSON") from None
        return _session_end(event)

    def _verify(self, delivery: Delivery, body: bytes) -> None:
        try:
            text = body.decode("utf-8")  # what the library takes
        except UnicodeDecodeError:
            raise WebhookRefusedError("the body is not UTF-8") from None
        # The library trips over what is not in the form of a signature, and knows no limit.
        sent = delivery.signature.split(" ", MAX_SIGNATURES)[:MAX_SIGNATURES]
        headers = {
            "webhook-id": delivery.id,
            "webhook-timestamp": delivery.timestamp,
            "webhook-signature": " ".join(filter(_SIGNATURE.fullmatch, sent)),
        }
        try:
            self._webhook.verify(text, headers, json_parse=False)
        except Exception:  # noqa: BLE001 - whatever it says about what a stranger sent, the signature does not hold
            raise WebhookRefusedError(_why_not(delivery)) from None


def _why_not(delivery: Delivery) -> str:
    age = time.time() - int(delivery.timestamp)
    if age > TOLERANCE:
        return "the header svix-timestamp is more than 5 minutes old"
    if age < -TOLERANCE:
        return "the header svix-timestamp is more than 5 minutes in the future"
    return "no signature matches: is CLERK_WEBHOOK_SIGNING_SECRET that of this endpoint in Clerk's dashboard?"


def _session_end(event: object) -> SessionEnd | None:
    """Build it from the fields that are named here; the user whom Clerk embeds is never among them."""
    kind = _find(event, "type")
    if not isinstance(kind, str):
        raise WebhookRefusedError(f"type {_MISSING if kind is None else 'is not a string'}")
    if kind not in _CAUSES:
        return None
    return SessionEnd(
        cause=_CAUSES[kind],
        user_id=_id(event, "data.user_id"),
        session_id=_id(event, "data.id"),
        org_id=_id_or_none(event, "data.last_active_organization_id"),
        actor_id=_id_or_none(event, "data.actor.sub"),
        ended_at=_seconds(event, "timestamp"),
        client_ip=_text_or_none(event, "event_attributes.http_request.client_ip"),
        user_agent=_text_or_none(event, "event_attributes.http_request.user_agent"),
    )


def _find(event: object, path: str) -> object:
    """Give what stands at a place such as ``data.actor.sub``; None where it, or what it would be in, is absent or null.

    Raises:
        WebhookRefusedError: something on the way to it is no JSON object.
    """
    value, names = event, path.split(".")
    for number, name in enumerate(names):
        if not isinstance(value, dict):
            raise WebhookRefusedError(f"{'.'.join(names[:number]) or 'the body'} is not a JSON object")
        value = value.get(name)
        if value is None:
            break
    return value


def _id(event: object, path: str) -> str:
    found = _id_or_none(event, path)
    if found is None:
        raise WebhookRefusedError(f"{path} {_MISSING}")
    return found


def _id_or_none(event: object, path: str) -> str | None:
    value = _find(event, path)
    if value is None:
        return None
    if not isinstance(value, str) or _ID.fullmatch(value) is None:
        raise WebhookRefusedError(f"{path} is not 1-128 visible ASCII characters")
    return value


def _seconds(event: object, path: str) -> float:
    value = _find(event, path)
    if value is None:
        raise WebhookRefusedError(f"{path} {_MISSING}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise WebhookRefusedError(f"{path} is not a number")
    seconds = value / 1000 if value >= MILLISECONDS_FROM else value
    if not 0 <= seconds < YEAR_10000:
        raise WebhookRefusedError(f"{path} is not a time in seconds or milliseconds since 1970")
    return seconds


def _text_or_none(event: object, path: str) -> str | None:
    """For what is only worth a line where it is usable."""
    try:
        value = _find(event, path)
    except WebhookRefusedError:
        return None
    return value if isinstance(value, str) else None

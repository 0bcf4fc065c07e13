"""Clerk's webhooks as Clerk sends them, signed by hand: the library under test has no part in it."""

import hmac
import json
import time
from base64 import b64decode, b64encode
from hashlib import sha256
from typing import Any

SECRET = f"whsec_{b64encode(b'the key of the tests, no secret!').decode()}"
OTHER_SECRET = f"whsec_{b64encode(b'the key of somebody else, is it?').decode()}"
MESSAGE_ID = "msg_2loginLoginLoginLoginLogin"
ENDED_AT = 1_716_883_200_123
"""Milliseconds since 1970: 2024-05-28T08:00:00.123Z."""
NAME, MAIL = "Ada", "ada@example.com"
"""What the embedded user tells, and no line may."""


def session_event(kind: str = "session.removed", **data: Any) -> dict[str, Any]:
    """An event about a session in the shape of Clerk's; the arguments change ``data``."""
    return {
        "data": {
            "object": "session",
            "id": "sess_2abcDEF",
            "user_id": "user_2xyzUVW",
            "client_id": "client_2abc",
            "status": kind.removeprefix("session."),
            "actor": None,
            "last_active_organization_id": None,
            "last_active_at": ENDED_AT - 1000,
            "expire_at": ENDED_AT + 604_800_000,
            "abandon_at": ENDED_AT + 2_592_000_000,
            "created_at": ENDED_AT - 60_000,
            "updated_at": ENDED_AT,
            "user": {
                "object": "user",
                "id": "user_2xyzUVW",
                "first_name": NAME,
                "email_addresses": [{"email_address": MAIL}],
            },
        }
        | data,
        "event_attributes": {"http_request": {"client_ip": "203.0.113.77", "user_agent": "Mozilla/5.0 (é)"}},
        "instance_id": "ins_2abc",
        "object": "event",
        "timestamp": ENDED_AT,
        "type": kind,
    }


def encoded(event: Any) -> bytes:
    return json.dumps(event, ensure_ascii=False).encode()


def signature(body: bytes, *, message_id: str = MESSAGE_ID, at: int, secret: str = SECRET) -> str:
    """HMAC-SHA256 over id, time and body with dots between them (Standard Webhooks, "Signature scheme")."""
    key = b64decode(secret.removeprefix("whsec_"))
    signed = b".".join([message_id.encode(), str(at).encode(), body])
    return f"v1,{b64encode(hmac.new(key, signed, sha256).digest()).decode()}"


def signed(body: bytes, *, message_id: str = MESSAGE_ID, age: float = 0, secret: str = SECRET) -> dict[str, str]:
    """The headers of a webhook that was signed ``age`` seconds ago."""
    at = int(time.time() - age)
    return {
        "content-type": "application/json",
        "svix-id": message_id,
        "svix-timestamp": str(at),
        "svix-signature": signature(body, message_id=message_id, at=at, secret=secret),
    }

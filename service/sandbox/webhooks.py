"""What Clerk sends when a session ends: a webhook, signed as Standard Webhooks has it, under Svix's header names.

Each is sent once, and the newest again when somebody asks for it. Clerk itself repeats what was not answered with 2xx.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime

import httpx
from standardwebhooks import Webhook
from starlette.requests import Request

from service.sandbox.instance import Instance, Session, new_id

Deliver = Callable[[Mapping[str, str], bytes], Awaitable[object]]
"""Sends these headers and this body to the service."""


def post_to(client: httpx.AsyncClient, url: str) -> Deliver:
    """Return a function that posts webhooks to a URL; one that cannot be delivered within Svix's 15 s is dropped."""

    async def deliver(headers: Mapping[str, str], body: bytes) -> None:
        with suppress(httpx.HTTPError):
            await client.post(url, content=body, headers=headers, timeout=15)

    return deliver


class Webhooks:
    """Sends webhooks about an instance's sessions."""

    def __init__(self, instance: Instance, deliver: Deliver | None) -> None:
        self._instance = instance
        self._signer = Webhook(instance.webhook_secret)
        self._deliver = deliver
        self.newest: tuple[str, str] | None = None  # id and body

    async def session_ended(self, session: Session, request: Request) -> None:
        """Report that a session has ended because of a request."""
        http_request = {
            "client_ip": request.client.host if request.client else "",
            "user_agent": request.headers.get("user-agent", ""),
        }
        event = {
            "data": session.as_json() | {"user": session.user()},
            "event_attributes": {"http_request": http_request},
            "instance_id": self._instance.kid,
            "object": "event",
            "timestamp": session.updated_at,
            "type": f"session.{session.status}",
        }
        self.newest = (new_id("msg"), json.dumps(event))
        await self.send(*self.newest)

    async def send(self, message_id: str, body: str) -> None:
        """Send a webhook, signed anew; its id stays the same however often it is sent."""
        now = datetime.now(UTC)
        headers = {
            "content-type": "application/json",
            "svix-id": message_id,
            "svix-timestamp": str(int(now.timestamp())),
            "svix-signature": self._signer.sign(message_id, now, body),
        }
        if self._deliver is not None:
            await self._deliver(headers, body.encode())

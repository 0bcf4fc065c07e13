"""What Clerk sends when a session ends: a webhook, signed as Standard Webhooks has it, under Svix's header names."""

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
from standardwebhooks import Webhook

from service.sandbox.instance import Instance, Session, new_id

Deliver = Callable[[Mapping[str, str], bytes], Awaitable[bool]]
"""Sends these headers and this body to the service; tells whether it answered with 2xx."""

RETRY_AFTER = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds after each failed attempt until the next one; Svix waits from 5 s to 10 h."""
KEPT = 100
"""Webhooks that can be sent again."""
TIMEOUT = 15.0
"""Seconds that the service has to answer, as with Svix."""


def post_to(client: httpx.AsyncClient, url: str) -> Deliver:
    """Give a function that posts webhooks to a URL."""

    async def deliver(headers: Mapping[str, str], body: bytes) -> bool:
        try:
            answer = await client.post(url, content=body, headers=headers, timeout=TIMEOUT)
        except httpx.HTTPError:
            return False
        return answer.is_success

    return deliver


@dataclass(frozen=True, slots=True)
class _Message:
    """A webhook. Its id stays the same however often it is sent."""

    id: str
    body: str


class Webhooks:
    """Sends webhooks in the background, again and again until the service has taken them.

    Args:
        instance: whose they are.
        deliver: sends one.
        sleep: waits for so many seconds.
    """

    def __init__(
        self, instance: Instance, deliver: Deliver, *, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    ) -> None:
        self._instance = instance
        self._webhook = Webhook(instance.webhook_secret)
        self._deliver = deliver
        self._sleep = sleep
        self._messages: deque[_Message] = deque(maxlen=KEPT)
        self._under_way: set[asyncio.Task[None]] = set()

    def session_ended(self, session: Session, *, client_ip: str, user_agent: str) -> None:
        """Tell that a session has ended, because of a request from this address and User-Agent."""
        event = {
            "data": session.as_json() | {"user": _user(session.user_id)},
            "event_attributes": {"http_request": {"client_ip": client_ip, "user_agent": user_agent}},
            "instance_id": self._instance.kid,
            "object": "event",
            "timestamp": session.updated_at,
            "type": f"session.{session.status}",
        }
        message = _Message(new_id("msg"), json.dumps(event))
        self._messages.append(message)
        self._start(message)

    def redeliver(self, count: int) -> list[str]:
        """Send the newest webhooks again, as many as are wanted and kept; give their ids."""
        again = list(self._messages)[-count:]
        for message in again:
            self._start(message)
        return [message.id for message in again]

    async def close(self) -> None:
        """Send nothing any more."""
        under_way = list(self._under_way)
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    def _start(self, message: _Message) -> None:
        task = asyncio.create_task(self._send(message), name=f"webhook {message.id}")
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _send(self, message: _Message) -> None:
        for pause in RETRY_AFTER:
            if await self._attempt(message):
                return
            await self._sleep(pause)
        await self._attempt(message)

    async def _attempt(self, message: _Message) -> bool:
        # Each is signed anew, with its own time.
        return await self._deliver(self._headers(message), message.body.encode())

    def _headers(self, message: _Message) -> dict[str, str]:
        now = datetime.now(UTC)
        return {
            "content-type": "application/json",
            "svix-id": message.id,
            "svix-timestamp": str(int(now.timestamp())),
            "svix-signature": self._webhook.sign(message.id, now, message.body),
        }


def _user(user_id: str) -> dict[str, Any]:
    """Give the user that Clerk embeds, the part of it that is personal."""
    return {
        "object": "user",
        "id": user_id,
        "first_name": "Sandra",
        "last_name": "Box",
        "email_addresses": [{"object": "email_address", "email_address": f"{user_id}@sandbox.example"}],
    }

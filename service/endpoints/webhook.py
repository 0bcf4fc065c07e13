"""``POST /v1/webhooks/clerk``: Clerk says that a session has ended, whether or not the frontend told us.

Clerk delivers a webhook again until it gets a 2xx, so 204 is answered only once the line was recorded. A webhook that
comes again, even a day later, is the same event with the same ``event_id``; revoking its session again is harmless:
that session gets no new tokens from Clerk, and the entry ends by itself.
"""

import asyncio
import logging
import uuid
from contextlib import AsyncExitStack
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from service.clerk.webhook import Delivery, EndedSession, WebhookRefusedError, read_delivery
from service.endpoints.state import RequestState, record_and_revoke
from service.events.request import NONE, RequestHead
from service.events.types import SessionEnded, now, timestamp_of

logger = logging.getLogger("service.webhook")

MAX_BODY = 262_144
"""Bytes. Clerk's largest carry a user and stay far below; a stranger's are read no further."""
SMALL_BODY = 16_384
"""Bytes: several times what Clerk's webhooks about sessions have."""
MAX_LARGE_BODIES = 32
"""Bodies above that which are read at the same time."""
TOO_LARGE = f"the body is larger than {MAX_BODY} bytes"


async def webhook(request: Request) -> Response:
    """Verify the webhook, record the event, put the session on the revocation list, and only then answer."""
    state: RequestState = request.scope["state"]
    count = state["resources"].metrics.webhooks.labels
    try:
        delivery, ended = await _read(request, state)
    except HTTPException as refusal:
        count("failed" if refusal.status_code == HTTPStatus.SERVICE_UNAVAILABLE else "refused").inc()
        if state["throttle"].may_say(refusal.detail):
            logger.warning("a webhook was refused: %s", refusal.detail)
        raise
    if ended is None:
        count("ignored").inc()
        return Response(status_code=204)
    event = _event(state, delivery, ended)
    # Revoked also where it was not recorded: until Clerk delivers it again, a token would have had its minute.
    if not await record_and_revoke(state["resources"], event, [ended.session_id], at=ended.ended_at):
        count("failed").inc()
        raise HTTPException(503, "the event was not recorded; deliver it again")
    count("recorded").inc()
    return Response(status_code=204)


async def _read(request: Request, state: RequestState) -> tuple[Delivery, EndedSession | None]:
    """Read the request, as little of it as decides. Every refusal is in our own words, none in the sender's."""
    reader, headers = state["webhook_reader"], state["head"].headers
    if reader is None:
        raise HTTPException(501, "webhooks are not taken: set CLERK_WEBHOOK_SIGNING_SECRET")
    length = headers.get(b"content-length", NONE)[0].lstrip(b"0")  # the parser takes any number of zeros, int() not
    if int(length or b"0") > MAX_BODY:
        raise HTTPException(413, TOO_LARGE)
    try:
        delivery = read_delivery(headers)
        return delivery, reader.read(delivery, await _read_body(request, state["large_bodies"]))
    except WebhookRefusedError as error:
        raise HTTPException(400, str(error)) from None
    except ClientDisconnect:
        raise HTTPException(400, "the body ended too soon") from None


async def _read_body(request: Request, large_bodies: asyncio.Semaphore) -> bytes:
    """Read it. A large one needs a place: strangers must not fill the memory with what nobody has signed."""
    body = bytearray()
    async with AsyncExitStack() as place:
        async for piece in request.stream():
            if len(body) <= SMALL_BODY < len(body) + len(piece):
                if large_bodies.locked():
                    raise HTTPException(503, "too many large bodies at once; deliver it again")
                await place.enter_async_context(large_bodies)
            body += piece
            if len(body) > MAX_BODY:
                raise HTTPException(413, TOO_LARGE)
    return bytes(body)


def _event(state: RequestState, delivery: Delivery, ended: EndedSession) -> SessionEnded:
    head = state["head"]
    headers = {b"traceparent": head.headers.get(b"traceparent", ())}
    if ended.user_agent is not None:
        headers[b"user-agent"] = (ended.user_agent.encode("latin-1", "replace"),)
    return SessionEnded(
        # The same for each delivery, in whichever process it arrives (RFC 9562, section 5.5).
        event_id=str(uuid.uuid5(uuid.NAMESPACE_URL, delivery.id)),
        timestamp=now(),
        who=ended,
        # Client and User-Agent are those of the request that ended the session, as Clerk tells them.
        facts=state["resources"].request_facts(RequestHead(headers, head.request_id, ended.client_ip)),
        cause=ended.cause,
        ended_at=timestamp_of(ended.ended_at),
    )

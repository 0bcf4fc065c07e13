"""``DELETE /v1/auth/session``: somebody logs out. Always 200, whatever was sent and whatever fails behind it.

Clerk ends the session; this endpoint only learns of it. So it verifies what it can, records one event, and answers.
"""

import logging

from starlette.requests import Request
from starlette.responses import Response

from service.clerk.credentials import read_credentials
from service.clerk.verdict import ABSENT, Auth, Verdict
from service.clerk.verifier import longest_lifetime
from service.endpoints.responses import JSONResponse, expire_cookies
from service.endpoints.state import RequestState, state_of
from service.events.types import UserLogout, new_event_id, now
from service.revocations.revocation_list import RevocationList
from service.telemetry.diagnostics import where

logger = logging.getLogger("service.logout")


async def logout(request: Request) -> Response:
    """Verify, record, have the session's tokens refused, and only then answer. The request's body is not read."""
    state = state_of(request)
    resources = state["resources"]
    event_id, recorded = new_event_id(), False
    verdict = ABSENT
    cookies: tuple[str, ...] = ()
    try:
        credentials = read_credentials(state["head"].headers)
        cookies = credentials.cookies
        verdict = await resources.verifier.verify(credentials.tokens)
        event_id, recorded = await _record(state, verdict, event_id, now())
    except Exception as error:  # noqa: BLE001 - the promise of the 200 holds for our own mistakes too
        logger.error("a logout was not recorded: %s", where(error))  # noqa: TRY400 - see where()
    await _revoke(resources.revocations, verdict)
    content = {"success": True, "message": "Logged out successfully", "event_id": event_id, "recorded": recorded}
    response = JSONResponse(content)
    expire_cookies(response, cookies)
    return response


async def _record(state: RequestState, verdict: Verdict, event_id: str, timestamp: str) -> tuple[str, bool]:
    """Record the logout, or count it where flood control says so; give the event's id and whether it is recorded."""
    resources, flood, identity = state["resources"], state["flood"], verdict.identity
    session_id = None if identity is None else identity.session_id
    if not flood.admits(session_id, lambda: resources.client_address(state["head"])):
        # Nothing of its own is written, so the answer must not say that it is.
        return flood.suppress(verdict.auth.value), False
    event = UserLogout(
        event_id=event_id,
        timestamp=timestamp,
        auth=verdict.auth.value,
        reason=verdict.reason.value if verdict.reason else None,
        who=identity,
        facts=resources.request_facts(state["head"]),
    )
    return event_id, await resources.recorder.record(event)


async def _revoke(revocations: RevocationList, verdict: Verdict) -> None:
    """Have the session's tokens refused from now on. Only a token that is valid now may cause that."""
    identity = verdict.identity
    if verdict.auth is not Auth.VERIFIED or identity is None:
        return
    try:
        await revocations.revoke([identity.session_id], token_lifetime=longest_lifetime(identity))
    except Exception as error:  # noqa: BLE001 - as above
        logger.error("a signed-out session was not put on the revocation list: %s", where(error))  # noqa: TRY400

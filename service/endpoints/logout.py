"""``DELETE /v1/auth/session``: somebody logs out. Always 200, whatever was sent and whatever fails behind it.

Clerk ends the session; this endpoint only learns of it. So it verifies what it can, records one event, and answers.
"""

import logging

from starlette.requests import Request
from starlette.responses import Response

from service.clerk.session_token import read_credentials
from service.clerk.verdict import ABSENT, Auth, Verdict
from service.clerk.verifier import longest_lifetime
from service.diagnostics import where
from service.endpoints import session_cookies
from service.endpoints.responses import JSONResponse
from service.endpoints.state import State
from service.events.types import UserLogout, new_event_id, now
from service.request.client import ClientAddress
from service.request.context import RequestFacts, who

logger = logging.getLogger("service.logout")


class Logout:
    """The endpoint.

    Args:
        client_address: finds the caller's address, for flood control.
        facts: finds what the request tells its event.
    """

    def __init__(self, client_address: ClientAddress, facts: RequestFacts) -> None:
        self._client_address = client_address
        self._facts = facts

    async def delete(self, request: Request[State]) -> Response:
        """Verify, record, have the session's tokens refused, and only then answer. The request's body is not read."""
        event_id, timestamp = new_event_id(), now()
        cookies: tuple[str, ...] = ()
        verdict = ABSENT
        recorded = False
        try:
            credentials = read_credentials(request.scope["headers"])
            cookies = credentials.cookies
            verdict = await request.state["verifier"].verify(credentials.tokens)
            flood = request.state["flood"]
            if verdict.identity is None and not flood.admits(self._client_address(request.scope)):
                # Nothing of its own is written, so the answer must not say that it is.
                event_id = flood.suppress(verdict.auth.value)
            else:
                event = self._event(request, verdict, event_id, timestamp)
                recorded = await request.state["recorder"].record(event)
        except Exception as error:  # noqa: BLE001 - the promise of the 200 holds for our own mistakes too
            logger.error("a logout was not recorded: %s", where(error))  # noqa: TRY400 - see where()
        await _revoke(request, verdict)
        response = JSONResponse(
            {"success": True, "message": "Logged out successfully", "event_id": event_id, "recorded": recorded}
        )
        session_cookies.expire(response, cookies)
        return response

    def _event(self, request: Request[State], verdict: Verdict, event_id: str, timestamp: str) -> UserLogout:
        auth, reason = verdict.auth.value, verdict.reason.value if verdict.reason else None
        facts = self._facts(request)
        if verdict.identity is None:
            return UserLogout(event_id=event_id, timestamp=timestamp, auth=auth, reason=reason, **facts)
        return UserLogout(
            event_id=event_id, timestamp=timestamp, auth=auth, reason=reason, **who(verdict.identity), **facts
        )


async def _revoke(request: Request[State], verdict: Verdict) -> None:
    """Have the session's tokens refused from now on. Only a token that is valid now may cause that."""
    identity = verdict.identity
    if verdict.auth is not Auth.VERIFIED or identity is None:
        return
    try:
        await request.state["revocations"].revoke([identity.session_id], token_lifetime=longest_lifetime(identity))
    except Exception as error:  # noqa: BLE001 - as above
        logger.error("a signed-out session was not put on the revocation list: %s", where(error))  # noqa: TRY400

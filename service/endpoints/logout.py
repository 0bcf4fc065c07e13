"""``DELETE /v1/auth/session``: somebody logs out. Always 200, whatever was sent and whatever fails behind it.

Clerk ends the session; this endpoint only learns of it. So it verifies what it can, records one event, and answers.
"""

import logging

from starlette.types import Receive, Scope, Send

from service.clerk.session_token import read_credentials
from service.clerk.verdict import ABSENT, Auth, Verdict
from service.clerk.verifier import longest_lifetime
from service.diagnostics import where
from service.endpoints import session_cookies
from service.endpoints.responses import send_json
from service.endpoints.state import state_of
from service.events.types import UserLogout, new_event_id, now
from service.request.client import ClientAddress
from service.request.context import RequestFacts
from service.revocations.revocation_list import RevocationList

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

    async def __call__(self, scope: Scope, _: Receive, send: Send) -> None:
        """Verify, record, have the session's tokens refused, and only then answer. The request's body is not read."""
        state = state_of(scope)
        event_id, timestamp = new_event_id(), now()
        cookies: tuple[str, ...] = ()
        verdict = ABSENT
        recorded = False
        try:
            credentials = read_credentials(scope["headers"])
            cookies = credentials.cookies
            verdict = await state["verifier"].verify(credentials.tokens)
            flood = state["flood"]
            if verdict.identity is None and not flood.admits(self._client_address(scope)):
                # Nothing of its own is written, so the answer must not say that it is.
                event_id = flood.suppress(verdict.auth.value)
            else:
                event = self._event(scope, verdict, event_id, timestamp)
                recorded = await state["recorder"].record(event)
        except Exception as error:  # noqa: BLE001 - the promise of the 200 holds for our own mistakes too
            logger.error("a logout was not recorded: %s", where(error))  # noqa: TRY400 - see where()
        await _revoke(state["revocations"], verdict)
        answer = {"success": True, "message": "Logged out successfully", "event_id": event_id, "recorded": recorded}
        await send_json(send, answer, session_cookies.expired(cookies))

    def _event(self, scope: Scope, verdict: Verdict, event_id: str, timestamp: str) -> UserLogout:
        return UserLogout(
            event_id=event_id,
            timestamp=timestamp,
            auth=str(verdict.auth),
            reason=str(verdict.reason) if verdict.reason else None,
            who=verdict.identity,
            facts=self._facts(scope),
        )


async def _revoke(revocations: RevocationList, verdict: Verdict) -> None:
    """Have the session's tokens refused from now on. Only a token that is valid now may cause that."""
    identity = verdict.identity
    if verdict.auth is not Auth.VERIFIED or identity is None:
        return
    try:
        await revocations.revoke([identity.session_id], token_lifetime=longest_lifetime(identity))
    except Exception as error:  # noqa: BLE001 - as above
        logger.error("a signed-out session was not put on the revocation list: %s", where(error))  # noqa: TRY400

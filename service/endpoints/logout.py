"""``DELETE /v1/auth/session``: somebody logs out. Always 200, whatever was sent and whatever fails behind it.

Clerk ends the session; this endpoint only learns of it. So it verifies what it can, records one event, and answers.
"""

import logging

from starlette.requests import Request
from starlette.responses import Response

from service.clerk.session_token import read_credentials
from service.clerk.verdict import Verdict
from service.diagnostics import where
from service.endpoints.client import ClientAddress
from service.endpoints.context import client_network, trace_id, user_agent
from service.endpoints.responses import JSONResponse
from service.endpoints.state import State
from service.events.types import UserLogout, new_event_id, now

logger = logging.getLogger("service.logout")


class Logout:
    """The endpoint.

    Args:
        origins: the allowed origins; another ``Origin`` header is not recorded.
        client_address: finds the caller's address.
        with_client_ip: record the caller's network.
        with_user_agent: record the User-Agent.
    """

    def __init__(
        self,
        *,
        origins: frozenset[str],
        client_address: ClientAddress,
        with_client_ip: bool,
        with_user_agent: bool,
    ) -> None:
        self._origins = origins
        self._client_address = client_address
        self._with_client_ip = with_client_ip
        self._with_user_agent = with_user_agent

    async def delete(self, request: Request[State]) -> Response:
        """Verify, record, and only then answer. The body of the request is not read."""
        event_id, timestamp = new_event_id(), now()
        cookies: tuple[str, ...] = ()
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
        response = JSONResponse(
            {"success": True, "message": "Logged out successfully", "event_id": event_id, "recorded": recorded}
        )
        for name in cookies:
            response.headers.append("set-cookie", f"{name}=; Max-Age=0; Path=/")
        return response

    def _event(self, request: Request[State], verdict: Verdict, event_id: str, timestamp: str) -> UserLogout:
        who = verdict.identity
        origin = request.headers.get("origin")
        return UserLogout(
            event_id=event_id,
            timestamp=timestamp,
            auth=verdict.auth.value,
            reason=verdict.reason.value if verdict.reason else None,
            user_id=who.user_id if who else None,
            session_id=who.session_id if who else None,
            org_id=who.org_id if who else None,
            actor_id=who.actor_id if who else None,
            request_id=request.state["request_id"],
            trace_id=trace_id(request),
            origin=origin if origin in self._origins else None,
            client_ip=client_network(self._client_address(request.scope)) if self._with_client_ip else None,
            user_agent=user_agent(request) if self._with_user_agent else None,
        )

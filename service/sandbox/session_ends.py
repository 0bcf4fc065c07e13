"""How sessions end in the stand-in: each end, whoever causes it, is a webhook."""

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.sandbox.instance import Instance, Session
from service.sandbox.webhooks import Webhooks

CAUSES = ("revoked", "removed", "ended")
"""The first one is meant where none is given."""


class SessionEnds:
    """Ends sessions; answers what is below ``/sandbox`` about that.

    Args:
        instance: whose sessions they are.
        webhooks: tell the service of each end.
    """

    def __init__(self, instance: Instance, webhooks: Webhooks) -> None:
        self._instance = instance
        self._webhooks = webhooks

    def end(self, session: Session, cause: str, request: Request) -> None:
        """End a session that is active, and tell the service. One that has ended keeps how it ended."""
        if self._instance.end(session, cause):
            client_ip = request.client.host if request.client else ""
            user_agent = request.headers.get("user-agent", "")
            self._webhooks.session_ended(session, client_ip=client_ip, user_agent=user_agent)

    async def end_one(self, request: Request) -> Response:
        """End one session, as from the dashboard or another device: the logout endpoint is not called for it."""
        cause = request.query_params.get("cause", CAUSES[0])
        if cause not in CAUSES:
            raise HTTPException(422, f"cause must be one of {', '.join(CAUSES)}")
        session = self._instance.session(request.path_params["session_id"])
        if session is None:
            raise HTTPException(404, "Session not found")
        self.end(session, cause, request)
        return JSONResponse(session.as_json())

    async def redeliver(self, request: Request) -> Response:
        """Send the newest webhook again, or the newest few, as Clerk does when an answer was lost."""
        count = request.query_params.get("count", "1")
        if not (count.isascii() and count.isdecimal() and len(count) <= 2 and int(count)):  # noqa: PLR2004 - 1 to 99
            raise HTTPException(422, "count must be a number from 1 to 99")
        return JSONResponse({"redelivered": self._webhooks.redeliver(int(count))})

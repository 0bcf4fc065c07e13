"""``GET /v1/auth/session``: does this token still count, and whose is it. Answers 200, or refuses as the guard does."""

from starlette.requests import Request
from starlette.responses import Response

from service.endpoints.responses import JSONResponse
from service.endpoints.state import state_of
from service.events.types import timestamp_of
from service.sessions.refusal import Refusal


async def session(request: Request) -> Response:
    """Answer whose session it is, and until when this token counts."""
    state = state_of(request)
    outcome = await state["resources"].session_check(state["head"])
    if isinstance(outcome, Refusal):
        return outcome.response()
    return JSONResponse(
        {
            "user_id": outcome.user_id,
            "session_id": outcome.session_id,
            "org_id": outcome.org_id,
            "actor_id": outcome.actor_id,
            "expires_at": timestamp_of(outcome.expires_at),
        }
    )

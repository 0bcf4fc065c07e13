"""``/v1/auth/session``: ``DELETE`` logs out, and ``GET`` says whether a token still counts, and whose it is.

Clerk ends the session; we only learn of it. So a logout is verified as far as can be, recorded as one event, and
answered: always 200, whatever was sent and whatever fails behind it. ``GET`` answers 200, or refuses as the guard does.
"""

import logging
from collections.abc import Iterable

import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.clerk.credentials import read_credentials
from service.clerk.verdict import ABSENT, Auth, Verdict
from service.endpoints.state import RequestState
from service.events.types import UserLogout, new_event_id, now, timestamp_of
from service.sessions.refusal import Refusal
from service.telemetry.diagnostics import where

logger = logging.getLogger("service.logout")

_PARTITIONED = b"; Secure; SameSite=None; Partitioned"


async def logout(request: Request) -> Response:
    """Verify, record, have the session's tokens refused, and only then answer. The request's body is not read."""
    state: RequestState = request.scope["state"]
    event_id, timestamp, recorded = new_event_id(), now(), False
    verdict = ABSENT
    cookies: tuple[str, ...] = ()
    try:
        resources = state["resources"]
        tokens, cookies = read_credentials(state["head"].headers, resources.session_cookies)
        verdict = await resources.logout_verifier.verify(tokens)
        event_id, recorded = await _record(state, verdict, event_id, timestamp)
    except Exception as error:  # noqa: BLE001 - the promise of the 200 holds for our own mistakes too
        logger.error("a logout was not recorded: %s", where(error))  # noqa: TRY400 - see where()
    try:
        # Only a token that is valid now may have its session refused.
        if verdict.auth is Auth.VERIFIED and (identity := verdict.identity) is not None:
            lifetime = identity.longest_lifetime
            await state["resources"].revocations.revoke([identity.session_id], token_lifetime=lifetime)
    except Exception as error:  # noqa: BLE001 - as above
        logger.error("a signed-out session was not put on the revocation list: %s", where(error))  # noqa: TRY400
    content = {"success": True, "message": "Logged out successfully", "event_id": event_id, "recorded": recorded}
    response = Response(orjson.dumps(content), media_type="application/json")
    if cookies:
        expire_cookies(response, cookies)
    return response


async def _record(state: RequestState, verdict: Verdict, event_id: str, timestamp: str) -> tuple[str, bool]:
    """Record the logout, or count it where flood control says so; give the event's id and whether it is recorded."""
    resources, flood, identity = state["resources"], state["flood"], verdict.identity
    session_id = None if identity is None else identity.session_id
    if not flood.admits(session_id, lambda: resources.request_facts.client_address(state["head"])):
        # Nothing of its own is written, so the answer must not say that it is.
        return flood.suppress(verdict.auth.value), False
    facts = resources.request_facts(state["head"])
    facts["authorized_party"] = None if identity is None else identity.authorized_party
    facts["token_issued_at"] = None if identity is None else timestamp_of(identity.issued_at)
    event = UserLogout(
        event_id=event_id,
        timestamp=timestamp,
        auth=verdict.auth.value,
        reason=verdict.reason.value if verdict.reason else None,
        who=identity,
        facts=facts,
    )
    return event_id, await resources.recorder.record(event)


def expire_cookies(response: Response, names: Iterable[str]) -> None:
    """Have the browser forget cookies by name, partitioned ones (CHIPS) too, which it keeps beside the others."""
    for name in names:
        expired = f"{name}=; Max-Age=0; Path=/".encode("ascii")
        response.raw_headers += [(b"set-cookie", expired), (b"set-cookie", expired + _PARTITIONED)]


async def session(request: Request) -> Response:
    """Answer whose session it is, and until when this token counts."""
    state: RequestState = request.scope["state"]
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

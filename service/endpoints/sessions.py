"""``DELETE /v1/auth/sessions``: somebody signs out everywhere, or everywhere else. Clerk ends the sessions.

The caller's token is verified, but the revocation list is not asked: who was signed out by a call that failed half-way
must be able to repeat it with the same token. Who calls while the same call is under way gets the answer of that one,
with the event of that one, which has the request id of the call that began it.
"""

import asyncio
import logging
from http import HTTPStatus

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from service.clerk.credentials import read_credentials
from service.clerk.reverification import is_fresh, reverification_error
from service.clerk.sign_out import DEADLINE, End, SignOut
from service.clerk.verdict import Auth
from service.endpoints.responses import JSONResponse, expire_cookies
from service.endpoints.signing_out import Ended, SigningOut
from service.endpoints.single_flight import BusyError
from service.endpoints.state import state_of
from service.sessions.refusal import refusal_of

logger = logging.getLogger("service.sessions")

SCOPES = ("all", "others")
RETRY_AFTER = 5
"""Seconds after which a call may be repeated that failed for want of time, of Clerk or of room."""
PATIENCE = 4.0
"""Seconds that a call waits for others to end; they are taken off its own deadline."""
WHEN_STOPPING = 2.0
"""Seconds that Clerk is still asked for once the service is about to end: as long as one call to Clerk may take. What
came of it is then recorded and answered before the server cuts the connection (``GRACE``)."""

_MESSAGES = {
    "all": "Logged out from all devices successfully",
    "others": "Logged out from all other devices successfully",
}
_PROBLEMS = {
    End.COMPLETE: "Some sessions could not be ended. Repeat the call to end the rest",
    End.RATE_LIMITED: "Clerk takes no more calls for now. Repeat the call after the seconds in Retry-After",
    End.UNREACHABLE: "Clerk could not be asked which sessions are left. Repeat the call to end the rest",
    End.KEY_REFUSED: "Clerk does not accept this service's secret key. Repeat the call once that is set right",
    End.OUT_OF_TIME: "Clerk did not answer in time. Repeat the call to end the rest",
}
_BUSY = "Too much else is under way. Repeat the call"
_REASONS = {
    End.COMPLETE: "sessions-left",
    End.RATE_LIMITED: "clerk-rate-limited",
    End.UNREACHABLE: "clerk-unreachable",
    End.KEY_REFUSED: "clerk-refuses-key",
    End.OUT_OF_TIME: "clerk-timeout",
}


async def sessions(request: Request) -> Response:
    """Answer with what Clerk did, never with more. The request's body is not read."""
    state = state_of(request)
    resources = state["resources"]
    api, max_age = resources.clerk, resources.settings.reverification_max_age_minutes
    if api is None:
        content = _problem("Signing out everywhere needs CLERK_SECRET_KEY, which is not set", "not-configured")
        return JSONResponse(content, status_code=HTTPStatus.NOT_IMPLEMENTED)
    credentials = read_credentials(state["head"].headers)
    verdict = await resources.verifier.verify(credentials.tokens)
    identity = verdict.identity
    if verdict.auth is not Auth.VERIFIED or identity is None:
        return refusal_of(verdict).response()
    if (mistake := _mistake(request.query_params)) is not None:
        return JSONResponse(mistake, status_code=HTTPStatus.BAD_REQUEST)
    scope = request.query_params.get("scope", "all")
    if max_age is not None and not is_fresh(identity.factor_ages, max_age):
        content = _problem("Prove again who you are, then repeat the call", "reverification-needed")
        content |= reverification_error(max_age)
        return JSONResponse(content, status_code=HTTPStatus.FORBIDDEN)

    loop = asyncio.get_running_loop()
    until = loop.time() + DEADLINE

    def begin() -> SigningOut:
        sign_out = SignOut(
            api,
            identity.user_id,
            own=identity.session_id,
            keep_own=scope == "others",
            deadline=until - loop.time(),
        )
        facts = resources.request_facts(state["head"])
        return SigningOut(sign_out, identity, scope, facts, resources.recorder, resources.revocations)

    throttle = state["throttle"]
    try:
        ended: Ended = await state["sign_outs"].do(
            identity.user_id, (identity.session_id, scope), begin, patience=PATIENCE
        )
    except BusyError:
        if throttle.may_say("busy"):
            logger.warning("somebody could not sign out everywhere: too much else was under way")
        return _unavailable(_problem(_BUSY, "busy"), RETRY_AFTER)
    if not ended.signed_out.succeeded and throttle.may_say(_REASONS[ended.signed_out.end]):
        logger.warning("sessions could not be ended at Clerk: %s", ended.signed_out.problem)
    response = _answer(ended, scope)
    if response.status_code == HTTPStatus.OK and scope == "all":
        expire_cookies(response, credentials.cookies)
    return response


def _mistake(query: QueryParams) -> dict[str, object] | None:
    """Say what is wrong with a query; a mistyped ``scope=others`` must not sign out whoever asks as well."""
    if any(name != "scope" for name in query):
        return _problem("This call has no parameter but scope", "parameter-unknown")
    scopes = query.getlist("scope")
    if len(scopes) > 1 or not set(scopes) <= set(SCOPES):
        return _problem(f"scope must be one of: {', '.join(SCOPES)}", "scope-invalid")
    return None


def _answer(ended: Ended, scope: str) -> Response:
    signed_out = ended.signed_out
    success = signed_out.succeeded
    content: dict[str, object] = {
        "success": success,
        "message": _MESSAGES[scope] if success else _PROBLEMS[signed_out.end],
    }
    if not success:
        content["reason"] = _REASONS[signed_out.end]
    content |= {"revoked_sessions": signed_out.revoked, "failed_sessions": signed_out.failed}
    if ended.event_id is not None:
        content |= {"event_id": ended.event_id, "recorded": ended.recorded}
    if signed_out.end is End.COMPLETE:
        return JSONResponse(content, status_code=HTTPStatus.OK if success else HTTPStatus.BAD_GATEWAY)
    retry_after = RETRY_AFTER if signed_out.retry_after is None else signed_out.retry_after
    return _unavailable(content, retry_after)


def _problem(message: str, reason: str) -> dict[str, object]:
    return {"success": False, "message": message, "reason": reason}


def _unavailable(content: dict[str, object], retry_after: int) -> Response:
    headers = {"Retry-After": str(retry_after)}
    return JSONResponse(content, status_code=HTTPStatus.SERVICE_UNAVAILABLE, headers=headers)

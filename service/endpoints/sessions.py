"""``DELETE /v1/auth/sessions``: sign out everywhere, or everywhere else. Clerk ends the sessions.

The revocation list is not asked about the caller: whoever was signed out by a call that failed half-way must be able to
repeat it with the same token.
"""

import asyncio
import logging
from collections.abc import Mapping
from functools import partial

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from service.clerk.credentials import read_credentials
from service.clerk.sign_out import SignOutEverywhere, StopReason, is_fresh, reverification_error
from service.clerk.verdict import Auth
from service.endpoints.responses import JSONResponse, expire_cookies
from service.endpoints.sign_out_everywhere import RecordedSignOut, sign_out_everywhere
from service.endpoints.single_flight import BusyError
from service.endpoints.state import state_of
from service.sessions.refusal import refusal_of

logger = logging.getLogger("service.sessions")

SCOPES = ("all", "others")
SIGN_OUT_TIMEOUT = 9.5
"""Seconds from a call's arrival for Clerk; recording comes after it, and the answer is there within 10 s."""
MAX_WAIT = 4.0
"""Seconds that a call waits for other sign-outs to end; they are part of its ``SIGN_OUT_TIMEOUT``."""
TIMEOUT_WHEN_STOPPING = 2.0
"""Seconds that Clerk is still asked once the service is stopping; the result is recorded and answered after them."""
RETRY_SIGN_OUT_AFTER = 5
"""Seconds, if Clerk does not say."""

_SUCCESS = {
    "all": "Logged out from all devices successfully",
    "others": "Logged out from all other devices successfully",
}
_FAILURE = {
    StopReason.COMPLETE: "Some sessions could not be ended. Retry to end the rest",
    StopReason.RATE_LIMITED: "Clerk is rate limiting requests. Retry after the number of seconds in Retry-After",
    StopReason.UNREACHABLE: "Clerk could not list the remaining sessions. Retry to end the rest",
    StopReason.KEY_REJECTED: "Clerk does not accept this service's secret key. Retry once it has been corrected",
    StopReason.TIMEOUT: "Clerk did not respond in time. Retry to end the rest",
}


async def sessions(request: Request) -> Response:
    """Answer with what Clerk did, never with more. The request's body is not read."""
    state = state_of(request)
    resources, throttle, head = state["resources"], state["throttle"], state["head"]
    api, max_age = resources.clerk, resources.settings.reverification_max_age_minutes
    if api is None:
        return _refused(501, "not-configured", "Signing out everywhere requires CLERK_SECRET_KEY, which is not set")
    credentials = read_credentials(head.headers, resources.session_cookies)
    verdict = await resources.verifier.verify(credentials.tokens)
    identity = verdict.identity
    if verdict.auth is not Auth.VERIFIED or identity is None:
        return refusal_of(verdict).response()
    if (refusal := _refused_query(request.query_params)) is not None:
        return refusal
    scope = request.query_params.get("scope", "all")
    if max_age is not None and not is_fresh(identity.factor_ages, max_age):
        return _refused(403, "reverification-needed", "Reverification is required", reverification_error(max_age))

    sign_out = SignOutEverywhere(api, identity.user_id, own=identity.session_id, keep_own=scope == "others")
    work = partial(
        sign_out_everywhere,
        sign_out,
        identity=identity,
        scope=scope,
        facts=resources.request_facts(head),
        resources=resources,
        limit=state["sign_out_limit"],
    )
    deadline = asyncio.get_running_loop().time() + SIGN_OUT_TIMEOUT
    key = identity.session_id, scope
    try:
        outcome = await state["sign_outs"].do(identity.user_id, key, work, max_wait=MAX_WAIT, deadline=deadline)
    except BusyError:
        if throttle.may_say("busy"):
            logger.warning("a sign-out everywhere was turned away: too many are in progress")
        message = "Too many sign-outs are in progress. Retry after the number of seconds in Retry-After"
        return _refused(503, "busy", message, retry_after=RETRY_SIGN_OUT_AFTER)
    result = outcome.result
    if not result.succeeded and throttle.may_say(result.stop_reason):
        logger.warning("a sign-out everywhere failed: %s", result.problem)
    response = _answer(outcome, scope)
    if result.succeeded and scope == "all":
        expire_cookies(response, credentials.cookies)
    return response


def _refused_query(query: QueryParams) -> Response | None:
    """Refuse a query with a mistake: a mistyped ``scope=others`` must not sign out the caller as well."""
    if any(name != "scope" for name in query):
        return _refused(400, "parameter-unknown", "Unknown query parameter; only scope is supported")
    scopes = query.getlist("scope")
    if len(scopes) > 1 or not set(scopes) <= set(SCOPES):
        return _refused(400, "scope-invalid", f"scope must be one of: {', '.join(SCOPES)}")
    return None


def _answer(outcome: RecordedSignOut, scope: str) -> Response:
    result = outcome.result
    if result.stop_reason is StopReason.TOO_MANY_REQUESTS:
        message = "Too many sign-outs of this user. Retry after the number of seconds in Retry-After"
        return _refused(429, result.stop_reason, message, retry_after=result.retry_after)
    content: dict[str, object] = {"success": result.succeeded}
    if result.succeeded:
        content["message"] = _SUCCESS[scope]
    else:
        complete = result.stop_reason is StopReason.COMPLETE
        content["message"] = _FAILURE[result.stop_reason]
        content["reason"] = "sessions-left" if complete else result.stop_reason
    content |= {"revoked_sessions": result.revoked, "failed_sessions": result.failed}
    if outcome.event_id is not None:
        content |= {"event_id": outcome.event_id, "recorded": outcome.recorded}
    if result.stop_reason is StopReason.COMPLETE:
        return JSONResponse(content, status_code=200 if result.succeeded else 502)
    return JSONResponse(content, status_code=503, headers=_retry_after(result.retry_after or RETRY_SIGN_OUT_AFTER))


def _retry_after(seconds: int) -> dict[str, str]:
    return {"Retry-After": str(seconds)}


def _refused(
    status: int, reason: str, message: str, more: Mapping[str, object] | None = None, retry_after: int | None = None
) -> Response:
    content = {"success": False, "message": message, "reason": reason, **(more or {})}
    headers = None if retry_after is None else _retry_after(retry_after)
    return JSONResponse(content, status_code=status, headers=headers)

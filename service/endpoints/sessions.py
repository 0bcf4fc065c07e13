"""``DELETE /v1/auth/sessions``: sign out everywhere, or everywhere else. Clerk ends the sessions.

The revocation list is not asked about the caller: whoever was signed out by a call that failed half-way must be able to
repeat it with the same token.
"""

import asyncio
import logging
from functools import partial
from http import HTTPStatus
from typing import Any

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.clerk.credentials import read_credentials
from service.clerk.sign_out import SignOutEverywhere, StopReason, is_fresh, reverification_error
from service.clerk.verdict import Auth, Identity
from service.endpoints.session import expire_cookies
from service.endpoints.sign_outs import BusyError
from service.endpoints.state import RequestState, record_and_revoke
from service.events.types import UserLogoutEverywhere, new_event_id, now, timestamp_of
from service.sessions.refusal import refusal_of

logger = logging.getLogger("service.sessions")

RETRY_AFTER = 5
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
    state: RequestState = request.scope["state"]
    resources, query = state["resources"], request.query_params
    max_age = resources.settings.reverification_max_age_minutes
    if resources.clerk is None:
        return _refused(501, "not-configured", "Signing out everywhere requires CLERK_SECRET_KEY, which is not set")
    credentials = read_credentials(state["head"].headers, resources.session_cookies)
    verdict = await resources.verifier.verify(credentials.tokens)
    identity = verdict.identity
    if verdict.auth is not Auth.VERIFIED or identity is None:
        return refusal_of(verdict).response()
    scope = query.get("scope", "all")
    if (refusal := _refused_query(query)) is not None:
        return refusal
    if max_age is not None and not is_fresh(identity.factor_ages, max_age):
        return _refused(403, "reverification-needed", "Reverification is required", **reverification_error(max_age))

    sign_out = SignOutEverywhere(resources.clerk, identity.user_id, own=identity.session_id, keep_own=scope == "others")
    work = partial(_sign_out_everywhere, state, sign_out, identity, scope)
    try:
        answer = await state["sign_outs"].do(identity.user_id, (identity.session_id, scope), work)
    except BusyError:
        _warn(state, "busy", "a sign-out everywhere was turned away: too many are in progress")
        message = "Too many sign-outs are in progress. Retry after the number of seconds in Retry-After"
        return _refused(503, "busy", message, retry_after=RETRY_AFTER)
    response = Response(answer.body, answer.status_code, answer.headers)  # a caller who joined has other cookies
    if answer.status_code == HTTPStatus.OK and scope == "all":
        expire_cookies(response, credentials.cookies)
    return response


def _refused_query(query: QueryParams) -> Response | None:
    """Refuse a query with a mistake: a mistyped ``scope=others`` must not sign out the caller as well."""
    if query.keys() - {"scope"}:
        return _refused(400, "parameter-unknown", "Unknown query parameter; only scope is supported")
    if query.getlist("scope") not in ([], ["all"], ["others"]):
        return _refused(400, "scope-invalid", "scope must be one of: all, others")
    return None


async def _sign_out_everywhere(
    state: RequestState, sign_out: SignOutEverywhere, identity: Identity, scope: str, time_limit: asyncio.Timeout
) -> Response:
    """Have Clerk end the sessions, then record an event, then have their tokens refused. Never raises."""
    limit = state["sign_out_limit"]
    if wait := limit.begin(identity.user_id):
        _warn(state, "too-many-requests", "a sign-out everywhere failed: one user has asked for too many")
        message = "Too many sign-outs of this user. Retry after the number of seconds in Retry-After"
        return _refused(429, "too-many-requests", message, retry_after=wait)
    event_id, timestamp = new_event_id(), now()
    result = await sign_out.run(time_limit)
    counts: dict[str, Any] = {"revoked_sessions": result.revoked, "failed_sessions": result.failed}
    if result.listed:  # else nothing happened
        event = UserLogoutEverywhere(
            event_id=event_id,
            timestamp=timestamp,
            scope=scope,
            **counts,
            who=identity,
            facts={
                **state["resources"].request_facts(state["head"]),
                "authorized_party": identity.authorized_party,
                "token_issued_at": timestamp_of(identity.issued_at),
            },
        )
        lifetime = identity.longest_lifetime
        recorded = await record_and_revoke(state["resources"], event, result.over, token_lifetime=lifetime)
        counts |= {"event_id": event_id, "recorded": recorded}
    if result.succeeded:
        limit.succeed(identity.user_id)
        return JSONResponse({"success": True, "message": _SUCCESS[scope], **counts})
    _warn(state, result.stop_reason, f"a sign-out everywhere failed: {result.problem}")
    message = _FAILURE[result.stop_reason]
    if result.stop_reason is StopReason.COMPLETE:
        return _refused(502, "sessions-left", message, **counts)
    return _refused(503, result.stop_reason, message, retry_after=result.retry_after or RETRY_AFTER, **counts)


def _refused(status: int, reason: str, message: str, *, retry_after: int | None = None, **more: object) -> Response:
    content = {"success": False, "message": message, "reason": reason, **more}
    return JSONResponse(content, status, None if retry_after is None else {"Retry-After": str(retry_after)})


def _warn(state: RequestState, reason: str, message: str) -> None:
    if state["throttle"].may_say(reason):
        logger.warning(message)

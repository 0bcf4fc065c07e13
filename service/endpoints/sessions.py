"""``DELETE /v1/auth/sessions``: somebody signs out everywhere, or everywhere else. Clerk ends the sessions.

The caller's token is verified, but the revocation list is not asked: who was signed out by a call that failed half-way
must be able to repeat it with the same token. Who calls while the same call is under way gets the answer of that one,
with the event of that one, which has the request id of the call that began it.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from http import HTTPStatus

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from service.clerk.reverification import is_fresh, reverification_error
from service.clerk.session_token import read_credentials
from service.clerk.sign_out import DEADLINE, End, SignedOut, SignOut
from service.clerk.verdict import Auth
from service.endpoints import session_cookies
from service.endpoints.responses import JSONResponse
from service.endpoints.seldom import Seldom
from service.endpoints.signing_out import Ended, SigningOut
from service.endpoints.state import State
from service.endpoints.under_way import BusyError, UnderWay
from service.guard.refusal import refusal_of
from service.request.context import RequestFacts

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


class EndSessions:
    """The endpoint.

    Args:
        facts: finds what the request tells its event.
        reverification_max_age: minutes ago at the most that the user proved who they are; None asks for nothing.
        deadline: seconds for all calls to Clerk.
        patience: seconds of them that a call waits until it can begin.
        clock: seconds, for what is said once a minute.
    """

    def __init__(
        self,
        facts: RequestFacts,
        *,
        reverification_max_age: int | None = None,
        deadline: float = DEADLINE,
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._facts = facts
        self._max_age = reverification_max_age
        self._deadline = deadline
        self._under_way = UnderWay[Ended]()
        self._patience = patience
        self._seldom = Seldom(clock=clock)
        self._trouble_was_told = False

    def stop(self) -> None:
        """Begin nothing more, and end what is under way soon enough for its callers to be answered."""
        self._under_way.stop(WHEN_STOPPING)

    async def close(self) -> None:
        """End what is under way, recorded as far as it got."""
        await self._under_way.close()

    async def delete(self, request: Request[State]) -> Response:
        """Answer with what Clerk did, never with more. The request's body is not read."""
        api = request.state["clerk"]
        if api is None:
            content = _problem("Signing out everywhere needs CLERK_SECRET_KEY, which is not set", "not-configured")
            return JSONResponse(content, status_code=HTTPStatus.NOT_IMPLEMENTED)
        credentials = read_credentials(request.scope["headers"])
        verdict = await request.state["verifier"].verify(credentials.tokens)
        identity = verdict.identity
        if verdict.auth is not Auth.VERIFIED or identity is None:
            return refusal_of(verdict).response()
        if (mistake := _mistake(request.query_params)) is not None:
            return JSONResponse(mistake, status_code=HTTPStatus.BAD_REQUEST)
        scope = request.query_params.get("scope", "all")
        if self._max_age is not None and not is_fresh(identity.factor_ages, self._max_age):
            content = _problem("Prove again who you are, then repeat the call", "reverification-needed")
            content |= reverification_error(self._max_age)
            return JSONResponse(content, status_code=HTTPStatus.FORBIDDEN)

        until = asyncio.get_running_loop().time() + self._deadline

        def begin() -> SigningOut:
            sign_out = SignOut(
                api,
                identity.user_id,
                own=identity.session_id,
                keep_own=scope == "others",
                deadline=until - asyncio.get_running_loop().time(),
            )
            return SigningOut(sign_out, identity, scope, self._facts(request.scope), request.state)

        try:
            key = (identity.session_id, scope)
            ended = await self._under_way.do(identity.user_id, key, begin, patience=self._patience)
        except BusyError:
            if self._seldom.may_say("busy"):
                logger.warning("somebody could not sign out everywhere: too much else was under way")
            return _unavailable(_problem(_BUSY, "busy"), RETRY_AFTER)
        self._tell(ended.signed_out)
        response = _answer(ended, scope)
        if response.status_code == HTTPStatus.OK and scope == "all":
            session_cookies.expire(response, credentials.cookies)
        return response

    def _tell(self, signed_out: SignedOut) -> None:
        """Log that Clerk does not do as it should, and once that it does again."""
        if signed_out.succeeded:
            if self._trouble_was_told:
                logger.info("sessions can be ended at Clerk again")
            self._trouble_was_told = False
            return
        if not self._seldom.may_say(_REASONS[signed_out.end]):
            return
        self._trouble_was_told = True
        if signed_out.end is End.KEY_REFUSED:
            logger.error("nobody can sign out everywhere: %s", signed_out.problem)
        else:
            logger.warning("sessions could not be ended at Clerk: %s", signed_out.problem)


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

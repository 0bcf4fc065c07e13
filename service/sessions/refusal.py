"""Why a request is not let in, and the answer that says so; nothing that the request sent is in it."""

from dataclasses import dataclass

from starlette.responses import JSONResponse, Response

from service.clerk.keys import COOL_DOWN
from service.clerk.verdict import Auth, Verdict


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not let in: 401, or 503 where it cannot be decided now, with the seconds to wait."""

    status: int
    reason: str
    """The verdict's code, or one of ours below."""
    message: str
    """The same in words."""
    retry_after: int | None = None

    def __str__(self) -> str:
        """Give the code: what Starlette answers with where nobody handles a ``SessionBackend``'s error."""
        return self.reason

    def response(self) -> Response:
        """Give the answer: JSON with the reason, and the header that belongs to its status."""
        headers = {"Cache-Control": "no-store"}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        elif self == ABSENT_REFUSED:
            headers["WWW-Authenticate"] = "Bearer"  # without an error code where no token was sent (RFC 6750, 3.1)
        else:
            headers["WWW-Authenticate"] = f'Bearer error="invalid_token", error_description="{self.reason}"'
        body = {"success": False, "message": self.message, "reason": self.reason}
        return JSONResponse(body, status_code=self.status, headers=headers)


ABSENT_REFUSED = Refusal(401, "session-token-missing", "A session token is needed")
SESSION_PENDING = Refusal(401, "session-pending", "This session has open tasks")
SESSION_REVOKED = Refusal(401, "session-revoked", "This session is signed out")
REVOCATIONS_UNAVAILABLE = Refusal(
    503, "revocations-unavailable", "Whether this session is signed out cannot be determined right now", 5
)
"""A revocation list that is back is in use again within these seconds."""


def refusal_of(verdict: Verdict) -> Refusal:
    """Give the refusal for a verdict that is not ``verified``."""
    if verdict.auth is Auth.ABSENT:
        return ABSENT_REFUSED
    reason = str(verdict.reason)
    if verdict.auth is Auth.UNVERIFIABLE:
        return Refusal(503, reason, "The session token cannot be verified right now", int(COOL_DOWN))
    message = "has expired" if verdict.auth is Auth.EXPIRED else "is not accepted"
    return Refusal(401, reason, f"The session token {message}")

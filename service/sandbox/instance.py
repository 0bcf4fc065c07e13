"""One pretended Clerk instance: its signing key, its users' sessions, the tokens it mints."""

import secrets
import string
import time
from base64 import b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import orjson
from joserfc.jwk import RSAKey
from joserfc.jws import JWSRegistry, serialize_compact

TOKEN_LIFETIME = 60
"""Seconds, as Clerk's session tokens."""
SESSION_LIFETIME = 7 * 24 * 3600
"""Seconds until a session expires: Clerk's default of seven days."""
STATUSES = ("abandoned", "active", "ended", "expired", "pending", "removed", "replaced", "revoked")

_SESSION_CATEGORY = "cl_B7d4PD111AAA"
_BASE62 = string.ascii_letters + string.digits
# Clerk's `cat` is no registered header parameter, so the strict registry refuses it.
_REGISTRY = JWSRegistry(algorithms=["RS256"], strict_check_header=False)


def new_id(prefix: str) -> str:
    """Give an id in Clerk's form, such as ``sess_2…``."""
    return f"{prefix}_2{''.join(secrets.choice(_BASE62) for _ in range(26))}"


@dataclass(slots=True)
class Session:
    """A session. Times are milliseconds since 1970, as in Clerk's API."""

    id: str
    user_id: str
    client_id: str
    created_at: int
    updated_at: int
    status: str = "active"
    org_id: str | None = None
    actor_id: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Give Clerk's Session object."""
        return {
            "object": "session",
            "id": self.id,
            "user_id": self.user_id,
            "client_id": self.client_id,
            "status": self.status,
            "actor": {"sub": self.actor_id} if self.actor_id else None,
            "last_active_organization_id": self.org_id,
            "last_active_at": self.updated_at,
            "expire_at": self.created_at + SESSION_LIFETIME * 1000,
            "abandon_at": self.created_at + 4 * SESSION_LIFETIME * 1000,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
        }


class Instance:
    """The state behind the stand-in.

    Args:
        issuer: goes into the tokens as ``iss``.
        secret_key: what callers of the Backend API must show.
        clock: seconds since 1970.
    """

    def __init__(self, issuer: str, secret_key: str, *, clock: Callable[[], float] = time.time) -> None:
        self.issuer = issuer
        self.secret_key = secret_key
        self.webhook_secret = f"whsec_{b64encode(secrets.token_bytes(24)).decode()}"
        self.kid = new_id("ins")
        self._clock = clock
        self._key = RSAKey.generate_key(2048, private=True)
        self._sessions: dict[str, Session] = {}

    def jwks(self) -> dict[str, Any]:
        """Give the public key as Clerk publishes it."""
        public = self._key.as_dict(private=False)
        key = {"use": "sig", "kty": "RSA", "kid": self.kid, "alg": "RS256", "n": public["n"], "e": public["e"]}
        return {"keys": [key]}

    def sign_in(
        self, user_id: str, *, client_id: str | None = None, org_id: str | None = None, actor_id: str | None = None
    ) -> Session:
        """Start a session; without a client a new one (a new device)."""
        now = self._milliseconds()
        client_id = client_id or new_id("client")
        session = Session(new_id("sess"), user_id, client_id, now, now, org_id=org_id, actor_id=actor_id)
        self._sessions[session.id] = session
        return session

    def session(self, session_id: str) -> Session | None:
        """Give a session by its id, whatever its status."""
        return self._sessions.get(session_id)

    def sessions(
        self, *, user_id: str | None = None, client_id: str | None = None, status: str | None = None
    ) -> list[Session]:
        """Give the matching sessions, the newest first."""
        wanted: Iterable[Session] = reversed(self._sessions.values())
        return [
            session
            for session in wanted
            if user_id in {None, session.user_id}
            and client_id in {None, session.client_id}
            and status in {None, session.status}
        ]

    def end(self, session: Session, status: str) -> bool:
        """End a session that is active, and tell whether it was; one that has ended keeps how it ended."""
        if session.status != "active":
            return False
        session.status = status
        session.updated_at = self._milliseconds()
        return True

    def session_token(self, session: Session, origin: str, *, age: int = 0) -> str:
        """Mint a session token v2 of an active session, for the frontend at ``origin``, ``age`` seconds ago."""
        now = int(self._clock()) - age
        claims: dict[str, Any] = {
            "azp": origin,
            "exp": now + TOKEN_LIFETIME,
            "fva": [(self._milliseconds() - session.created_at) // 60_000, -1],
            "iat": now,
            "iss": self.issuer,
            "jti": secrets.token_hex(10),
            "nbf": now - 10,
            "sid": session.id,
            "sts": "active",
            "sub": session.user_id,
            "v": 2,
        }
        if session.org_id is not None:
            claims["o"] = {"id": session.org_id, "slg": "sandbox", "rol": "member"}
        if session.actor_id is not None:
            claims["act"] = {"sub": session.actor_id}
        header = {"alg": "RS256", "cat": _SESSION_CATEGORY, "kid": self.kid, "typ": "JWT"}
        return serialize_compact(header, orjson.dumps(claims), self._key, registry=_REGISTRY)

    def _milliseconds(self) -> int:
        return int(self._clock() * 1000)

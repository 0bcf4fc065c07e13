"""One pretended Clerk instance: its signing key, its users' sessions, the tokens it mints."""

import secrets
import string
import time
from base64 import b64encode, urlsafe_b64encode
from dataclasses import asdict, dataclass
from hashlib import sha1
from typing import Any

import orjson
from joserfc.jwk import RSAKey
from joserfc.jws import JWSRegistry, serialize_compact

TOKEN_LIFETIME = 60
"""Seconds, as of Clerk's session tokens."""
FRONTEND_API = "sandbox.clerk.accounts.dev"
"""The host that clerk-js reads from the publishable key, unless it is given a ``proxyUrl``."""
PUBLISHABLE_KEY = f"pk_test_{b64encode(f'{FRONTEND_API}$'.encode()).decode()}"
COOKIE_SUFFIX = urlsafe_b64encode(sha1(PUBLISHABLE_KEY.encode()).digest())[:8].decode()  # noqa: S324 - Clerk's rule
"""Ends the names of the cookies of this instance."""
SESSION_LIFETIME = 7 * 24 * 3600 * 1000
"""Milliseconds: Clerk's default of seven days."""

_BASE62 = string.ascii_letters + string.digits
# Clerk's `cat` is not a registered header parameter, so the strict registry refuses it.
_REGISTRY = JWSRegistry(algorithms=["RS256"], strict_check_header=False)


def new_id(prefix: str) -> str:
    """Make an id in Clerk's form, such as ``sess_2…``."""
    return f"{prefix}_2{''.join(secrets.choice(_BASE62) for _ in range(26))}"


@dataclass(slots=True)
class Session:
    """A session. Names are those of Clerk's API, times are milliseconds since 1970."""

    id: str
    user_id: str
    client_id: str
    created_at: int
    updated_at: int
    status: str
    last_active_organization_id: str | None = None
    actor: None = None

    def user(self) -> dict[str, Any]:
        """Return Clerk's User object."""
        email = {"object": "email_address", "id": "idn_sandbox", "email_address": f"{self.user_id}@sandbox.example"}
        return {
            "object": "user",
            "id": self.user_id,
            "first_name": "Sandra",
            "email_addresses": [email],
            "primary_email_address_id": email["id"],
            "password_enabled": True,
        }

    def as_json(self) -> dict[str, Any]:
        """Return Clerk's Session object."""
        return asdict(self) | {
            "object": "session",
            "last_active_at": self.updated_at,
            "expire_at": self.created_at + SESSION_LIFETIME,
            "abandon_at": self.created_at + 4 * SESSION_LIFETIME,
        }


class Instance:
    """The state behind the stand-in."""

    def __init__(self, issuer: str, secret_key: str) -> None:
        self.issuer = issuer
        self.secret_key = secret_key
        self.webhook_secret = f"whsec_{b64encode(secrets.token_bytes(24)).decode()}"
        self.kid = new_id("ins")
        self._key = RSAKey.generate_key(2048, private=True)
        self._sessions: dict[str, Session] = {}
        self._verified_at: dict[str, int] = {}

    def jwks(self) -> dict[str, Any]:
        """Return the public key as Clerk publishes it."""
        return {"keys": [self._key.as_dict(private=False, use="sig", kid=self.kid, alg="RS256")]}

    def sign_in(self, user_id: str, *, client_id: str | None = None, status: str = "active") -> Session:
        """Start a session, on a new device unless a client is given."""
        now = _milliseconds()
        session = Session(new_id("sess"), user_id, client_id or new_id("client"), now, now, status)
        self._sessions[session.id] = session
        return session

    def session(self, session_id: str) -> Session | None:
        """Return a session by its id, whatever its status."""
        return self._sessions.get(session_id)

    def sessions(
        self, *, user_id: str | None = None, client_id: str | None = None, status: str | None = None
    ) -> list[Session]:
        """Return the matching sessions, newest first."""
        return [
            session
            for session in reversed(self._sessions.values())
            if user_id in {None, session.user_id}
            and client_id in {None, session.client_id}
            and status in {None, session.status}
        ]

    def end(self, session: Session, status: str) -> bool:
        """End a session and return whether it was alive; one that had ended already keeps its status."""
        if session.status not in {"active", "pending"}:
            return False
        session.status = status
        session.updated_at = _milliseconds()
        return True

    def session_token(self, session: Session, origin: str, *, age: int = 0, **changes: object) -> str:
        """Mint a session token (version 2) for a frontend; ``changes`` are claims, None leaves one out."""
        now = int(time.time()) - age
        claims: dict[str, Any] = {
            "azp": origin,
            "exp": now + TOKEN_LIFETIME,
            "fva": self.factor_age(session),
            "iat": now,
            "iss": self.issuer,
            "jti": secrets.token_hex(10),
            "nbf": now - 10,
            "sid": session.id,
            "sts": "pending" if session.status == "pending" else "active",
            "sub": session.user_id,
            "v": 2,
        }
        if session.last_active_organization_id is not None:
            claims["o"] = {"id": session.last_active_organization_id, "slg": "sandbox", "rol": "member"}
        claims = {name: value for name, value in (claims | changes).items() if value is not None}
        return self.sign(claims, cat="cl_B7d4PD111AAA")

    def factor_age(self, session: Session) -> list[int]:
        """Return the minutes since the user has proved who they are; there is no second factor."""
        verified_at = self._verified_at.get(session.id, session.created_at)
        return [(_milliseconds() - verified_at) // 60_000, -1]

    def verified(self, session: Session) -> None:
        """Remember that the user has just proved who they are."""
        self._verified_at[session.id] = _milliseconds()

    def sign(self, claims: dict[str, Any], **header: str) -> str:
        """Make a JWT, signed with the instance's key."""
        header |= {"alg": "RS256", "kid": self.kid, "typ": "JWT"}
        return serialize_compact(header, orjson.dumps(claims), self._key, registry=_REGISTRY)


def _milliseconds() -> int:
    return int(time.time() * 1000)

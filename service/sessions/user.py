"""Who a request was admitted as."""

from dataclasses import dataclass
from typing import Self

from starlette.authentication import BaseUser

from service.clerk.verdict import Identity


@dataclass(frozen=True, slots=True)
class SessionUser(BaseUser):
    """The user of a session that counts, as applications find them in ``request.user``. Ids as in ``Identity``.

    All requests with the same token share it, for up to a minute: it cannot be assigned to, and nothing of one request
    is to be kept in it.
    """

    user_id: str
    session_id: str
    org_id: str | None
    """The active organisation."""
    actor_id: str | None
    """The impersonator, when somebody acts as the user."""
    expires_at: int
    """The token's ``exp``, in seconds since 1970."""

    @classmethod
    def of(cls, identity: Identity) -> Self:
        """Give the user of an identity."""
        return cls(identity.user_id, identity.session_id, identity.org_id, identity.actor_id, identity.expires_at)

    @property
    def is_authenticated(self) -> bool:
        """Always: nobody else becomes one."""
        return True

    @property
    def display_name(self) -> str:
        """Clerk's user id; the token holds no name."""
        return self.user_id

    @property
    def identity(self) -> str:
        """Clerk's user id."""
        return self.user_id

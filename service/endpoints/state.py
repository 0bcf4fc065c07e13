"""What an endpoint finds in ``request.state``."""

from collections.abc import Callable, Mapping
from typing import Protocol, TypedDict

from starlette.types import Scope

from service.clerk.sign_out import Sessions
from service.clerk.verifier import Verifier
from service.events.flood import FloodControl
from service.events.recorder import Recorder
from service.guard.session_check import SessionCheck
from service.revocations.revocation_list import RevocationList


class Part(Protocol):
    """A part of the service, as ``/readyz`` sees it."""

    @property
    def problem(self) -> str | None:
        """Why it cannot do its work, in one line without a secret; None while it can. Known without asking anybody."""
        ...


class AppState(TypedDict):
    """What the lifespan opens and closes; shared by all requests of a process."""

    verifier: Verifier
    clerk: Sessions | None
    """Clerk's Backend API; None without a secret key."""
    recorder: Recorder
    flood: FloodControl
    revocations: RevocationList
    session_check: SessionCheck
    parts: Mapping[str, Part]
    """What logouts need, by the names that ``/readyz`` shows: without one of them the process is not ready."""
    other_parts: Mapping[str, Part]
    """What logouts do without for a while. ``/readyz`` tells of it, and stays ready."""
    stop: Callable[[], None]
    """What the server calls when it begins to end, while what is under way is still answered."""


class State(AppState):
    """The same with what the middleware adds for one request."""

    request_id: str


def state_of(scope: Scope) -> State:
    """Give the same to an endpoint that is an ASGI application."""
    state: State = scope["state"]
    return state

"""What an endpoint finds in ``request.state``."""

from typing import TypedDict

from service.clerk.verifier import Verifier
from service.events.flood import FloodControl
from service.events.recorder import Recorder


class AppState(TypedDict):
    """What the lifespan opens and closes; shared by all requests of a process."""

    verifier: Verifier
    recorder: Recorder
    flood: FloodControl


class State(AppState):
    """The same with what the middleware adds for one request."""

    request_id: str

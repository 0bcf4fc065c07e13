"""Which path leads to which endpoint."""

from starlette.routing import Match, Route
from starlette.types import Scope


class ExactRoute(Route):
    """A route without parameters whose path must be the whole path.

    Starlette's own pattern ends in ``$``, which matches before a newline at the end (``%0a``), too.
    """

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Tell whether a request is for this route."""
        if scope["path"].endswith("\n"):
            return Match.NONE, {}
        return super().matches(scope)

"""The same application behind the guard, which is set up by the environment."""

from service.guard import SessionGuard
from tests.benchmarks.apps.bare import app

app.add_middleware(SessionGuard)

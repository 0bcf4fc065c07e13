"""Two replicas behind nginx are restarted one after the other, and nobody notices."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.conftest import Figure
from tests.faults.load import running
from tests.faults.requests import logouts, valid
from tests.support.lines import EventFile
from tests.support.processes import free_port, serve
from tests.support.proxies import nginx
from tests.support.redis_server import redis_server

RESTARTS = 6
RATE = 200
"""Requests a second."""

pytestmark = pytest.mark.fault


class Replica(ExitStack):
    """A service that starts again on the same port, with the same log and the same spool."""

    def __init__(self, directory: Path, redis: str) -> None:
        super().__init__()
        port = free_port()
        self.log = EventFile(directory / f"{port}.jsonl")
        self._settings = {
            "PORT": str(port),
            "EVENT_LOG": str(self.log.path),
            "EVENT_SPOOL_DIR": str(directory / f"spool-{port}"),
            "REVOCATIONS_URL": redis,
        }
        self.start()

    def start(self) -> None:
        self.server = self.enter_context(serve(settings=self._settings))

    def restart(self) -> None:
        """As a service manager does: SIGTERM, wait for the end, start."""
        assert self.server.stop() == 0
        self.close()
        self.start()


def test_a_rolling_restart_loses_no_request_and_no_event(tmp_path: Path, figure: Figure) -> None:
    with (
        redis_server() as redis,
        Replica(tmp_path, redis.url) as one,
        Replica(tmp_path, redis.url) as two,
        nginx(tmp_path, one.server, two.server) as proxy,
        running(proxy.url, logouts([*valid(200), None]), rate=RATE) as load,
    ):
        for _ in range(RESTARTS // 2):
            one.restart()
            two.restart()
        outcome = load.stop()
        assert one.server.stop() == two.server.stop() == 0
    written = {event["event_id"] for replica in (one, two) for event in replica.log.new()}
    figure("requests during the restarts", len(outcome.answers))
    figure("of them not answered", len(outcome.unanswered), bound=0)
    figure("answered otherwise than with 200", len(outcome.answers) - outcome.statuses[200], bound=0)
    figure("acknowledged, and missing in the logs", len(set(outcome.recorded) - written), bound=0)
    figure("restarts", RESTARTS)
    assert len(outcome.recorded) > 2 * RATE, "there was no load"

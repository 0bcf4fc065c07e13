"""Redis is killed or frozen under load, and comes back: no logout notices, and none is forgotten."""

import time
from collections.abc import Callable

import httpx
import pytest

from tests.faults.conftest import Figure
from tests.faults.load import running, steady
from tests.faults.requests import logouts, valid
from tests.support.processes import TIMEOUT, Server, serve
from tests.support.redis_server import RedisServer, redis_server

RATE = 100
"""Logouts per second, each of another session."""
BEFORE = 5.0
OUTAGE = 8.0
MOST_ADDED = 60.0
"""Milliseconds that an outage may add to a logout."""
MOST_RECOVERY = 5.0
"""Seconds from Redis's return until it is used again."""

Break = Callable[[RedisServer], None]
OUTAGES: dict[str, tuple[Break, Break]] = {
    "killed": (RedisServer.kill, RedisServer.start),
    "frozen": (RedisServer.freeze, RedisServer.thaw),
}


@pytest.mark.fault
@pytest.mark.parametrize("outage", OUTAGES)
def test_an_outage_of_redis_slows_no_logout_and_forgets_none(outage: str, figure: Figure) -> None:
    break_it, mend_it = OUTAGES[outage]
    before_tokens = valid(round(RATE * BEFORE))
    # Enough for the whole outage, so that nobody signs out twice.
    tokens = valid(round(RATE * (OUTAGE + 2 * MOST_RECOVERY)))
    with redis_server() as redis, serve(settings={"REVOCATIONS_URL": redis.url}) as server:
        before = steady(server.url, logouts(before_tokens), rate=RATE, seconds=BEFORE)
        assert redis.keys() >= len(before_tokens)
        with running(server.url, logouts(tokens), rate=RATE) as load:
            time.sleep(1)
            break_it(redis)
            wait_until_up(server, up=False)
            time.sleep(OUTAGE)
            assert (problem_of(server) or "").startswith("Redis: ")
            mend_it(redis)
            back = time.monotonic()
            wait_until_up(server, up=True)
            recovery = time.monotonic() - back
            time.sleep(1)
            during = load.stop()
        signed_out = redis.keys()
        assert server.stop() == 0
    told = said(server, "the revocation list cannot be used")
    assert told == said(server, "can be used again")
    # More where the machine is so busy that Redis takes more than 50 ms.
    figure(f"{outage}: outages told on stderr", told)
    for outcome in (before, during):
        assert not outcome.failures
        assert set(outcome.statuses) == {200}
        assert all(answer.recorded for answer in outcome.answers)
    assert len(during.answers) <= len(tokens)
    figure(f"{outage}: logouts before and during", len(before.answers) + len(during.answers))
    figure(f"{outage}: p99 before", before.p99, "ms")
    figure(f"{outage}: p99 during", during.p99, "ms")
    figure(f"{outage}: added to the p99", max(0.0, during.p99 - before.p99), "ms", bound=MOST_ADDED)
    figure(f"{outage}: added to the slowest", max(0.0, during.max - before.max), "ms", bound=MOST_ADDED)
    figure(f"{outage}: used again after", recovery, "s", bound=MOST_RECOVERY)
    # Redis may hold two probes beside them.
    missing = len(before.answers) + len(during.answers) - signed_out
    figure(f"{outage}: signed-out sessions that Redis does not know afterwards", max(0, missing), bound=0)


def wait_until_up(server: Server, *, up: bool) -> None:
    """Wait until the service says so; an outage of Redis alone never makes it unready."""
    deadline = time.monotonic() + TIMEOUT
    while (problem_of(server) is None) is not up:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def problem_of(server: Server) -> str | None:
    answer = httpx.get(f"{server.url}/readyz")
    assert answer.status_code == 200
    assert answer.json()["status"] == "ready"
    text: str = answer.json()["revocations"]
    return None if text == "ok" else text


def said(server: Server, text: str) -> int:
    return sum(text in line["message"] for line in server.diagnostics)

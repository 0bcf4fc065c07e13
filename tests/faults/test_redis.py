"""Redis is killed or frozen under load, and comes back: no logout notices, and none is forgotten."""

import time
from collections.abc import Callable

import httpx
import pytest

from tests.faults.conftest import Figure
from tests.faults.load import burst, running, steady
from tests.faults.requests import calls, logouts, valid
from tests.support.processes import Server, serve, wait_until
from tests.support.redis_server import RedisServer, redis_server

RATE = 200
"""Logouts per second, each of another session."""
WARM_UP = 2.0
BEFORE = 5.0
OUTAGE = 8.0
MOST_ADDED = 120.0
"""Milliseconds that an outage may add to a logout: 100 for Redis, and the machine."""
MOST_RECOVERY = 5.0
"""Seconds from Redis's return until it is used again."""
BURST = 400
BURSTS = 5

Break = Callable[[RedisServer], None]
OUTAGES: dict[str, tuple[Break, Break]] = {
    "killed": (RedisServer.kill, RedisServer.start),
    "frozen": (RedisServer.freeze, RedisServer.thaw),
}


@pytest.mark.fault
@pytest.mark.parametrize("outage", OUTAGES)
def test_an_outage_of_redis_slows_no_logout_and_forgets_none(outage: str, figure: Figure) -> None:
    break_it, mend_it = OUTAGES[outage]
    first_tokens, before_tokens = valid(round(RATE * WARM_UP)), valid(round(RATE * BEFORE))
    # Enough for the whole outage, so that nobody signs out twice.
    tokens = valid(round(RATE * (OUTAGE + 2 * MOST_RECOVERY)))
    with redis_server() as redis, serve(settings={"REVOCATIONS_URL": redis.url}) as server:
        # The first requests of a process are slow by themselves, which must not excuse anything.
        first = steady(server.url, logouts(first_tokens), rate=RATE, seconds=WARM_UP)
        before = steady(server.url, logouts(before_tokens), rate=RATE, seconds=BEFORE)
        with running(server.url, logouts(tokens), rate=RATE) as load:
            time.sleep(1)
            break_it(redis)
            wait_until(lambda: problem_of(server) is not None, "the outage is noticed")
            time.sleep(OUTAGE)
            assert (problem_of(server) or "").startswith("Redis: ")
            mend_it(redis)
            back = time.monotonic()
            wait_until(lambda: problem_of(server) is None, "Redis is used again")
            recovery = time.monotonic() - back
            time.sleep(1)
            during = load.stop()
        signed_out = redis.keys()
        assert server.stop() == 0
    for outcome in (before, during):
        assert not outcome.failures
        assert set(outcome.statuses) == {200}
        assert all(answer.recorded for answer in outcome.answers)
    assert len(during.answers) <= len(tokens)
    figure(f"{outage}: outages told on stderr", said(server, "the revocation list cannot be used"), bound=1)
    figure(f"{outage}: of them told to be over", said(server, "can be used again"))
    figure(f"{outage}: logouts before and during", len(before.answers) + len(during.answers))
    figure(f"{outage}: p99 before", before.p99, "ms")
    figure(f"{outage}: p99 during", during.p99, "ms")
    figure(f"{outage}: added to the p99", max(0.0, during.p99 - before.p99), "ms", bound=MOST_ADDED)
    figure(f"{outage}: added to the slowest", max(0.0, during.max - before.max), "ms", bound=MOST_ADDED)
    figure(f"{outage}: used again after", recovery, "s", bound=MOST_RECOVERY)
    # Redis holds the marker and perhaps a probe beside them.
    missing = len(first.answers) + len(before.answers) + len(during.answers) + 1 - signed_out
    figure(f"{outage}: signed-out sessions that Redis does not know afterwards", max(0, missing), bound=0)


@pytest.mark.fault
def test_a_burst_of_guarded_requests_is_no_outage_of_redis(figure: Figure) -> None:
    with redis_server() as redis, serve(settings={"REVOCATIONS_URL": redis.url}) as server:
        requests = calls("GET /v1/auth/session", valid(BURST))
        outcome = burst(server.url, requests, count=BURST * BURSTS, connections=BURST)
        assert problem_of(server) is None
        assert server.stop() == 0
    assert said(server, "cannot be used") == 0
    assert outcome.statuses == {200: BURST * BURSTS}
    figure(f"guarded requests, {BURST} at once, that were answered 200", len(outcome.answers))


def problem_of(server: Server) -> str | None:
    """What the service says about Redis, if it cannot be used; that alone never makes the service unready."""
    answer = httpx.get(f"{server.url}/readyz")
    assert answer.status_code == 200
    assert answer.json()["status"] == "ready"
    text: str = answer.json()["revocations"]
    return None if text == "ok" else text


def said(server: Server, text: str) -> int:
    return sum(text in line["message"] for line in server.diagnostics)

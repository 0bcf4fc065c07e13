"""A flood of forged tokens beside the users of an ordinary day."""

from pathlib import Path
from statistics import median

import pytest

from tests.faults.conftest import Figure
from tests.faults.load import Request, steady
from tests.faults.outcome import Outcome
from tests.faults.requests import forged, logouts, valid
from tests.faults.troubled_clerk import TroubledClerk
from tests.support.lines import EventFile
from tests.support.processes import serve

VALID_RATE = 100
FLOOD_RATE = 500
"""Forged requests per second: what one core of the service answers thousands of. More would measure the machine, whose
two cores the load generator shares, and not whether the service lets forged tokens go before valid ones."""
SHARE = 1 + FLOOD_RATE // VALID_RATE
"""One request in so many is a valid one while the flood lasts."""
ROUNDS = 10
"""With and without the flood in turn. The median round is judged, so that what else the machine does for some seconds
is not."""
SECONDS = 4.1
"""Of each half of a round; ten floods of them are 20,500 forged requests."""


def beside(users: Request, flood: Request) -> Request:
    """One request of the users, then as many of the flood as keeps both at their rates."""
    return lambda number: flood(number - number // SHARE - 1) if number % SHARE else users(number // SHARE)


@pytest.mark.fault
def test_forged_tokens_do_not_hold_up_valid_ones(tmp_path: Path, figure: Figure) -> None:
    # A bad signature under a known kid costs a verification; an unknown kid may cause a fetch.
    fake = [token for pair in zip(forged(100), forged(100, kid="ins_unknown"), strict=True) for token in pair]
    users, flood = logouts(valid(500)), logouts(fake)
    event_log = EventFile(tmp_path / "events.jsonl")
    alone, flooded, forgeries, ratios = Outcome([], []), Outcome([], []), Outcome([], []), []
    with TroubledClerk() as clerk, serve(settings=clerk.settings | {"EVENT_LOG": str(event_log.path)}) as server:
        steady(server.url, users, rate=VALID_RATE, seconds=2)
        for _ in range(ROUNDS):
            without = steady(server.url, users, rate=VALID_RATE, seconds=SECONDS)
            both = steady(server.url, beside(users, flood), rate=VALID_RATE + FLOOD_RATE, seconds=SECONDS)
            beside_it = both.only(lambda number: number % SHARE == 0)
            alone, flooded = alone + without, flooded + beside_it
            forgeries += both.only(lambda number: number % SHARE != 0)
            ratios.append(beside_it.p99 / without.p99)
        assert server.stop() == 0

    assert not alone.failures + flooded.failures + forgeries.failures
    assert set(alone.statuses + flooded.statuses + forgeries.statuses) == {200}
    auth = {event["event_id"]: event["auth"] for event in event_log.new()}
    assert {auth[event_id] for event_id in alone.recorded + flooded.recorded} == {"verified"}
    assert {auth[event_id] for event_id in forgeries.recorded} <= {"rejected", "unverifiable"}
    figure("forged requests", len(forgeries.answers))
    assert len(forgeries.answers) >= 20_000
    figure("p99 of valid requests without the flood", alone.p99, "ms")
    figure("p99 of valid requests beside it", flooded.p99, "ms")
    figure("the one to the other, median round", median(ratios), bound=2)

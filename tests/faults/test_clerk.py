"""Clerk in trouble: every way in which its JWKS can fail, all at the same time, each on a service of its own."""

import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from math import inf
from pathlib import Path

import pytest

from tests.faults.conftest import Figure
from tests.faults.load import Load, running
from tests.faults.outcome import Outcome
from tests.faults.requests import logouts, valid
from tests.faults.troubled_clerk import Fault, TroubledClerk
from tests.support.lines import EventFile
from tests.support.processes import Server, serve, wait_until
from tests.support.signing import jwk, private_key

RATE = 20
"""Requests per second to each service: three in four carry a token of the known key, one of an unknown ``kid``."""
DURATION = 65.0
"""Seconds of trouble, in which fetches of both kinds come twice at least."""
COOL_DOWN = 30.0
"""Seconds in which there is one fetch in the background at the most, and one that an unknown ``kid`` causes."""
FETCH_DEADLINE = 2.0
"""Seconds after which a fetch is over, however it goes."""
MAX_P99 = 400.0
"""Milliseconds."""
JITTER = 0.5
"""Seconds by which fetches may arrive closer together than they were sent."""
NEW_KID = "ins_rotated"
UNKNOWN = 4
"""Every fourth request."""


@dataclass(frozen=True)
class Case:
    """What happens to one service's Clerk: ``fault`` begins after the first good fetch, or with the start."""

    name: str
    fault: Fault
    from_the_start: bool = False
    rotated: bool = False


CASES = [
    *(Case(fault.value, fault) for fault in Fault if fault is not Fault.NONE),
    Case("rotated keys", Fault.NONE, rotated=True),
    Case("hanging from the start", Fault.HANGING, from_the_start=True),
]


@pytest.mark.fault
def test_a_clerk_in_trouble_slows_nobody_and_takes_no_good_key(tmp_path: Path, figure: Figure) -> None:
    known = valid(30)
    new = valid(10, kid=NEW_KID, key=private_key("rotated"))
    tokens = [known[number % len(known)] if number % UNKNOWN else new[number // UNKNOWN] for number in range(40)]
    clerks: list[TroubledClerk] = []
    servers: list[Server] = []
    loads: list[Load] = []
    with ExitStack() as stack:
        for case in CASES:
            clerk = stack.enter_context(TroubledClerk(case.fault if case.from_the_start else Fault.NONE))
            event_log = str(tmp_path / f"{case.name}.jsonl")
            server = stack.enter_context(serve(settings=clerk.settings | {"EVENT_LOG": event_log}))
            wait_until(partial(bool, clerk.fetches), "the keys are fetched at the start")
            time.sleep(FETCH_DEADLINE if case.from_the_start else 0.2)
            clerk.fault = case.fault
            if case.fault is Fault.REFUSED:
                clerk.close()
            if case.rotated:
                clerk.keys = [jwk(NEW_KID, private_key("rotated"))]
            clerks.append(clerk)
            servers.append(server)
            loads.append(stack.enter_context(running(server.url, logouts(tokens), rate=RATE)))
        time.sleep(DURATION)
        outcomes = [load.stop() for load in loads]
        assert [server.stop() for server in servers] == [0] * len(CASES)

    for case, clerk, server, outcome in zip(CASES, clerks, servers, outcomes, strict=True):
        auth = {event["event_id"]: event["auth"] for event in EventFile(tmp_path / f"{case.name}.jsonl").new()}
        assert not outcome.failures, case.name
        assert set(outcome.statuses) == {200}, case.name
        # All of them, also one that a busy machine wrote too late for its answer.
        assert {answer.event_id for answer in outcome.answers} == set(auth), case.name
        check_verdicts(case, clerk, outcome, auth)
        figure(f"{case.name}: p99", outcome.p99, "ms", bound=MAX_P99)
        check_fetches(case, clerk, server, figure)


def check_verdicts(case: Case, clerk: TroubledClerk, outcome: Outcome, auth: dict[str, str]) -> None:
    # The answer to a fetch of rotated keys takes a moment, in which either is right.
    rotated = clerk.fetches[1] if case.rotated else inf
    seen: dict[tuple[str, str], set[str]] = defaultdict(set)
    for answer in outcome.answers:
        kind = "known" if answer.number % UNKNOWN else "unknown"
        when = "before" if answer.sent < rotated - 1 else "after" if answer.sent > rotated + 1 else "meanwhile"
        seen[kind, when].add(auth[answer.event_id or ""])
    if case.from_the_start:
        assert seen["known", "before"] == seen["unknown", "before"] == {"unverifiable"}
    elif case.rotated:
        assert seen["known", "before"] <= {"verified"}
        assert seen["unknown", "after"] == {"verified"}
        assert seen["known", "after"] <= {"rejected", "unverifiable"}
    else:
        assert seen["known", "before"] == {"verified"}, case.name
        # It may have been published since the last good fetch, so nobody knows.
        assert seen["unknown", "before"] == {"unverifiable"}, case.name


def check_fetches(case: Case, clerk: TroubledClerk, server: Server, figure: Figure) -> None:
    fetches = clerk.fetches
    if case.fault is Fault.REFUSED:
        # What is refused cannot be counted where it is refused; the service says when it happened.
        fetches = [
            datetime.fromisoformat(line["timestamp"]).timestamp()
            for line in server.diagnostics
            if line["message"].startswith("keys could not be fetched")
        ]
    shortest = min(later - earlier for earlier, later in zip(fetches, fetches[2:], strict=False))
    bound = 2 * COOL_DOWN / (COOL_DOWN - JITTER)
    figure(f"{case.name}: fetches per {COOL_DOWN:g} s", 2 * COOL_DOWN / shortest, bound=bound)

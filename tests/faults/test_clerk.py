"""Clerk in trouble: every way in which its JWKS can fail, all at the same time, each on a service of its own."""

import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from tests.faults.conftest import Figure
from tests.faults.load import Load, running
from tests.faults.outcome import Answer, Outcome
from tests.faults.requests import logouts, valid
from tests.faults.troubled_clerk import Fault, TroubledClerk, stand_in
from tests.support.lines import EventFile
from tests.support.processes import TIMEOUT, Server, serve
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


def is_unknown(number: int) -> bool:
    return number % UNKNOWN == 0


@dataclass
class Case:
    """One service and its Clerk. ``fault`` begins after the first good fetch, or with the start."""

    name: str
    fault: Fault
    from_the_start: bool = False
    rotated: bool = False

    def __post_init__(self) -> None:
        self.clerk = TroubledClerk()
        if self.from_the_start:
            self.clerk.fault = self.fault

    def begin_trouble(self) -> None:
        self.clerk.fault = self.fault
        if self.rotated:
            self.clerk.keys = [jwk(NEW_KID, private_key("rotated"))]


def all_cases() -> list[Case]:
    return [
        *(Case(fault.value, fault) for fault in Fault if fault is not Fault.NONE),
        Case("rotated keys", Fault.NONE, rotated=True),
        Case("hanging from the start", Fault.HANGING, from_the_start=True),
    ]


@pytest.mark.fault
def test_a_clerk_in_trouble_slows_nobody_and_takes_no_good_key(tmp_path: Path, figure: Figure) -> None:
    known = valid(30)
    new = valid(10, kid=NEW_KID, key=private_key("rotated"))
    tokens = [new[number // UNKNOWN] if is_unknown(number) else known[number % len(known)] for number in range(40)]
    cases = all_cases()
    with ExitStack() as stack:
        stack.enter_context(stand_in(*(case.clerk for case in cases)))
        servers: list[Server] = []
        loads: list[Load] = []
        for number, case in enumerate(cases):
            settings = {
                "CLERK_JWT_KEY": "",
                "CLERK_SECRET_KEY": "sk_test_nobody",
                "CLERK_API_URL": case.clerk.url,
                "EVENT_LOG": str(tmp_path / f"{number}.jsonl"),
            }
            server = stack.enter_context(serve(settings=settings))
            servers.append(server)
            wait_for_fetch(case.clerk)
            case.begin_trouble()
            loads.append(stack.enter_context(running(server.url, logouts(tokens), rate=RATE)))
        time.sleep(DURATION)
        outcomes = [load.stop() for load in loads]
        assert [server.stop() for server in servers] == [0] * len(cases)

    for number, (case, server, outcome) in enumerate(zip(cases, servers, outcomes, strict=True)):
        auth = {event["event_id"]: event["auth"] for event in EventFile(tmp_path / f"{number}.jsonl").new()}
        assert not outcome.failures, case.name
        assert set(outcome.statuses) == {200}, case.name
        # All of them, also one that a busy machine wrote too late for its answer.
        assert {answer.event_id for answer in outcome.answers} == set(auth), case.name
        check_verdicts(case, outcome, auth)
        figure(f"{case.name}: p99", outcome.p99, "ms", bound=MAX_P99)
        check_fetches(case, server, figure)


def check_verdicts(case: Case, outcome: Outcome, auth: dict[str, str]) -> None:
    def verdicts(answers: list[Answer]) -> set[str]:
        return {auth[answer.event_id or ""] for answer in answers}

    known, unknown = outcome.only(lambda number: not is_unknown(number)), outcome.only(is_unknown)
    if case.from_the_start:
        assert verdicts(outcome.answers) == {"unverifiable"}
    elif case.rotated:
        fetched = case.clerk.fetches[1]
        # The answer to the fetch takes a moment, in which either is right.
        before = [answer for answer in outcome.answers if answer.sent < fetched - 1]
        after = Outcome([answer for answer in outcome.answers if answer.sent > fetched + 1], [])
        assert verdicts(Outcome(before, []).only(lambda number: not is_unknown(number)).answers) <= {"verified"}
        assert verdicts(after.only(is_unknown).answers) == {"verified"}
        assert verdicts(after.only(lambda number: not is_unknown(number)).answers) <= {"rejected", "unverifiable"}
    else:
        assert verdicts(known.answers) == {"verified"}, case.name
        # It may have been published since the last good fetch, so nobody knows.
        assert verdicts(unknown.answers) == {"unverifiable"}, case.name


def check_fetches(case: Case, server: Server, figure: Figure) -> None:
    fetches = case.clerk.fetches
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


def wait_for_fetch(clerk: TroubledClerk) -> None:
    """Wait for the first fetch and, however it goes, for its end."""
    deadline = time.monotonic() + TIMEOUT
    while not clerk.fetches:
        assert time.monotonic() < deadline, "the keys were not fetched at the start"
        time.sleep(0.01)
    time.sleep(0.2 if clerk.fault is Fault.NONE else FETCH_DEADLINE)

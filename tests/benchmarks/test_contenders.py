"""Each contender in Python does what it is measured for. Hono needs npm's packages; ``make bench`` checks it itself."""

from dataclasses import replace

import pytest

from tests.benchmarks import load
from tests.benchmarks.contenders import HONO, Contender, all_contenders, application, limit, service
from tests.benchmarks.load import drive
from tests.benchmarks.running import Bench
from tests.benchmarks.verdicts import WrongError, check_guard, check_refusals, check_run
from tests.support.debian import need
from tests.support.processes import listens

pytestmark = pytest.mark.slow

IN_PYTHON = [contender for contender in all_contenders() if contender.name != HONO]


@pytest.mark.parametrize("contender", IN_PYTHON, ids=lambda contender: str(contender.name))
def test_a_contender_refuses_a_forged_and_an_expired_token(contender: Contender) -> None:
    with Bench() as bench:
        running = bench.start(contender)
        check_refusals(running.name, running.port, running.ledger, expiry=contender.expiry)
    assert not listens(running.port)


def test_who_lets_a_bad_token_in_is_caught() -> None:
    with Bench() as bench:
        blind, bare = bench.start(limit()), bench.start(application("bare", "bare"))
        check_guard("guarded", bench.start(application("guarded", "guarded")).port, "GET /orders")
        with pytest.raises(WrongError, match="a token that is absent got 200"):
            check_guard("bare", bare.port, "GET /orders")
        with pytest.raises(WrongError, match="a token that is expired got 200"):
            check_refusals(blind.name, blind.port, blind.ledger, expiry=True)


def test_wrk_sends_every_token_in_turn() -> None:
    need("wrk", "wrk")
    with Bench() as bench:
        running = bench.start(service())
        answers = drive(running.port, replace(bench.load(load.verified()), seconds=1, connections=4))
        verdicts = running.ledger(answers.responses)
    check_run("service", "verified", answers, verdicts, 4)
    assert verdicts.users is not None
    times = [verdicts.users[load.user_id(number)] for number in range(load.USERS)]
    assert max(times) - min(times) <= 2  # one for the last lap, one for what wrk's end cut off


def test_wrk_tells_of_answers_that_are_not_200() -> None:
    need("wrk", "wrk")
    with Bench() as bench:
        running = bench.start(limit())
        answers = drive(running.port, replace(bench.load(load.forged()), seconds=1, connections=4))
    assert answers.not_ok == answers.responses > 0

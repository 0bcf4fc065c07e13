"""Each contender in Python does what it is measured for. Hono needs npm's packages; ``make bench`` checks it itself."""

import pytest

from tests.benchmarks.checks import WrongError, check_refusals
from tests.benchmarks.contenders import Contender, all_contenders, application
from tests.benchmarks.guard import check_guard
from tests.benchmarks.running import Bench, StartError, listens
from tests.benchmarks.start import start_once
from tests.benchmarks.tokens import valid

IN_PYTHON = [contender for contender in all_contenders() if contender.name != "Hono"]


@pytest.mark.parametrize("contender", IN_PYTHON, ids=lambda contender: str(contender.name))
def test_a_contender_refuses_a_forged_and_an_expired_token(contender: Contender) -> None:
    with Bench() as bench:
        running = bench.start(contender)
        check_refusals(running.name, running.port, running.ledger, expiry=contender.expiry)
    assert not listens(running.port)


def test_the_limit_would_be_caught_taking_an_expired_token() -> None:
    (limit,) = [contender for contender in IN_PYTHON if not contender.expiry]
    with Bench() as bench:
        running = bench.start(limit)
        with pytest.raises(WrongError, match="a token that is expired got 200"):
            check_refusals(running.name, running.port, running.ledger, expiry=True)


def test_the_guarded_application_lets_in_good_tokens_only() -> None:
    with Bench() as bench:
        check_guard(bench.start(application("guarded", "guarded")).port)


def test_an_application_without_the_guard_would_be_caught() -> None:
    with Bench() as bench, pytest.raises(WrongError, match="a token that is absent got 200"):
        check_guard(bench.start(application("bare", "bare")).port)


def test_a_contender_that_cannot_start_shows_what_it_said() -> None:
    with Bench() as bench, pytest.raises(StartError, match="Could not import module"):
        bench.start(application("nobody", "nobody"))


def test_a_start_ends_with_the_first_answer() -> None:
    (limit,) = [contender for contender in IN_PYTHON if not contender.expiry]
    start = start_once(limit, valid()[0])
    assert start.seconds > 0
    assert start.processor > 0

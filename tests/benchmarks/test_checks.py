from collections import Counter
from dataclasses import replace

import pytest

from tests.benchmarks.checks import WrongError, check_run, check_suppressed
from tests.benchmarks.drive import Answers
from tests.benchmarks.tokens import USERS, user_id
from tests.benchmarks.verdicts import Verdicts

ANSWERS = Answers(2000, 1_000_000, p50=1, p99=1, p999=1, not_ok=0, unanswered=0)


def verified(count: int = 2000, users: int = USERS) -> Verdicts:
    return Verdicts(Counter(verified=count), Counter(user_id(number % users) for number in range(count)))


@pytest.mark.parametrize("count", [2000, 2064])
def test_a_run_is_right_with_a_verdict_for_each_response_and_those_under_way(count: int) -> None:
    check_run("it", "verified", ANSWERS, verified(count), connections=64)


def test_a_count_without_users_is_enough_for_the_limit() -> None:
    check_run("limit", "verified", ANSWERS, Verdicts(Counter(verified=2000), None), connections=64)


@pytest.mark.parametrize(
    ("answers", "verdicts", "message"),
    [
        (ANSWERS, verified(1999), "2000 responses, but 1999 verdicts"),
        (ANSWERS, verified(2065), "2000 responses, but 2065 verdicts"),
        (ANSWERS, verified(users=USERS - 1), "1 of 500 users were never verified"),
        (ANSWERS, Verdicts(Counter(verified=2000, rejected=1), verified().users), "1 verdicts were not verified"),
        (ANSWERS, Verdicts(Counter(verified=2000), verified(1999).users), "2000 verdicts verified, but 1999 name"),
        (ANSWERS, Verdicts(Counter(verified=2000), Counter(user_stranger=2000)), "1 users who sent no token"),
        (replace(ANSWERS, not_ok=1), verified(), "1 answers were not 200"),
        (replace(ANSWERS, unanswered=1), verified(), "1 requests broke"),
        (replace(ANSWERS, responses=0), Verdicts(Counter(), Counter()), "no answer at all"),
    ],
)
def test_a_run_that_is_wrong_says_why(answers: Answers, verdicts: Verdicts, message: str) -> None:
    with pytest.raises(WrongError, match=message):
        check_run("it", "verified", answers, verdicts, connections=64)


def test_suppressed_calls_have_few_lines_of_the_expected_verdict() -> None:
    check_suppressed("it", "absent", ANSWERS, Verdicts(Counter(absent=500)))


@pytest.mark.parametrize("said", [Counter(absent=2000), Counter(absent=1, verified=1)])
def test_calls_that_were_not_suppressed_are_noticed(said: Counter[str]) -> None:
    with pytest.raises(WrongError, match="were to be suppressed"):
        check_suppressed("it", "absent", ANSWERS, Verdicts(said))

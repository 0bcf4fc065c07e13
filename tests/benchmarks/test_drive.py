from tests.benchmarks import tokens
from tests.benchmarks.checks import check_run
from tests.benchmarks.contenders import limit, service
from tests.benchmarks.drive import Answers, Load, drive, parse
from tests.benchmarks.http_requests import BROWSER, request
from tests.benchmarks.running import Bench
from tests.support.debian import need


def test_the_last_line_is_the_scripts() -> None:
    output = (
        "Running 3s test @ http://127.0.0.1:8000\n  1 threads and 64 connections\nRequests/sec:   9000.00\n"
        '{"responses": 27000, "microseconds": 3000000, "p50": 1, "p99": 2, "p999": 3, "not_ok": 4, "unanswered": 5}\n'
    )
    answers = parse(output)
    assert answers == Answers(27000, 3_000_000, p50=1, p99=2, p999=3, not_ok=4, unanswered=5)
    assert answers.rate == 9000


def test_wrk_sends_every_token_in_turn() -> None:
    need("wrk", "wrk")
    with Bench() as bench:
        running = bench.start(service())
        answers = drive(running.port, Load(bench.requests(tokens.valid()), connections=4, seconds=1))
        verdicts = running.ledger.take(answers.responses)
    check_run("service", "verified", answers, verdicts, 4)
    assert verdicts.users is not None
    times = [verdicts.users[tokens.user_id(number)] for number in range(tokens.USERS)]
    assert max(times) - min(times) <= 2  # one for the last lap, one for what wrk's end cut off


def test_wrk_tells_of_answers_that_are_not_200() -> None:
    need("wrk", "wrk")
    with Bench() as bench:
        answers = drive(bench.start(limit()).port, Load(bench.requests(tokens.forged()), connections=4, seconds=1))
    assert answers.not_ok == answers.responses > 0


def test_a_request_is_what_goes_over_the_wire() -> None:
    assert request("a.b.c") == (
        b"DELETE /v1/auth/session HTTP/1.1\r\nHost: logout.example.com\r\nAuthorization: Bearer a.b.c\r\n"
        b"Connection: keep-alive\r\n\r\n"
    )


def test_without_a_token_none_is_sent() -> None:
    assert b"Authorization" not in request("", BROWSER)
    assert b"Sec-Fetch-Mode: cors" in request("", BROWSER)

"""The harness itself: what it reports is what happened."""

import socketserver
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.faults.load import burst, steady
from tests.faults.outcome import Failure
from tests.faults.requests import calls

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"
REQUEST = calls("GET /")

Behaviour = Callable[[int], bytes | None]
"""What to send to the n-th request of a connection; None ends the connection."""


@contextmanager
def answering(behaviour: Behaviour) -> Iterator[str]:

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            number = 0
            while line := self.rfile.readline():
                if line == b"\r\n":
                    if (answer := behaviour(number)) is None:
                        return
                    self.wfile.write(answer)
                    number += 1

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server, ThreadPoolExecutor(1) as pool:
        pool.submit(server.serve_forever, 0.01)
        try:
            yield "http://{}:{}".format(*server.server_address)
        finally:
            server.shutdown()


def test_a_stall_counts_for_all_who_were_due_in_it() -> None:
    def stall(number: int) -> bytes:
        time.sleep(0.2 if number == 10 else 0)
        return ANSWER

    with answering(stall) as url:
        outcome = steady(url, REQUEST, rate=200, seconds=0.5, connections=1)
    assert outcome.statuses == {200: 100}
    # One connection: while the eleventh request stalls, some forty more become due and wait.
    assert sum(answer.latency > 0.1 for answer in outcome.answers) > 15
    assert outcome.max >= 200
    assert outcome.p99 <= outcome.max


@pytest.mark.parametrize(
    ("behaviour", "failure"),
    [
        (lambda _: None, Failure.RESET),
        (lambda number: ANSWER if number == 0 else None, Failure.STALE),
        (lambda _: b"HTTP/1.1 200 OK\r\n", Failure.TIMEOUT),
    ],
)
def test_what_got_no_answer_says_why(behaviour: Behaviour, failure: Failure) -> None:
    with answering(behaviour) as url:
        outcome = burst(url, REQUEST, count=2, connections=1, timeout=0.5)
    assert set(outcome.failures) == {failure}
    assert len(outcome.answers) + len(outcome.unanswered) == 2
    assert all(request.sent is not None for request in outcome.unanswered)

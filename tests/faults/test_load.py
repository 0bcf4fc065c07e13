"""The harness itself: what it reports is what happened."""

import os
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.faults.load import burst, running, steady
from tests.faults.outcome import Failure
from tests.faults.reader import PipeReader
from tests.faults.requests import get
from tests.support.processes import TIMEOUT, free_port

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"
REQUEST = get("/")

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

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield "http://{}:{}".format(*server.server_address)
        finally:
            server.shutdown()
            thread.join()


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
        outcome = burst(url, REQUEST, count=2, connections=1, timeout=2 if failure is Failure.TIMEOUT else TIMEOUT)
    assert set(outcome.failures) == {failure}
    assert len(outcome.answers) + len(outcome.unanswered) == 2
    assert all(request.sent is not None for request in outcome.unanswered)


def test_what_nobody_listens_to_was_never_sent() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    outcome = burst(url, REQUEST, count=3, connections=2)
    assert outcome.failures == {Failure.REFUSED: 3}
    assert [request.sent for request in outcome.unanswered] == [None] * 3


def test_a_load_beside_the_test_ends_when_it_is_told_to() -> None:
    asked = threading.Event()

    def answer(_: int) -> bytes:
        asked.set()
        return ANSWER

    with answering(answer) as url, running(url, REQUEST, rate=1000) as load:
        assert asked.wait(TIMEOUT)
        outcome = load.stop()
        assert load.stop() is outcome
    assert outcome.answers


def test_a_paused_reader_takes_nothing() -> None:
    read_end, write_end = os.pipe()
    reader = PipeReader(read_end)
    with os.fdopen(write_end, "wb", buffering=0) as pipe:
        reader.pause()
        pipe.write(b"{}\n" * 5)
        time.sleep(0.05)  # that nothing happens cannot be awaited
        assert reader.line_count == 0
        reader.resume()
        while reader.line_count < 5:
            time.sleep(0.001)

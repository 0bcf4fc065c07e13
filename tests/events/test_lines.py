import pytest

from service.events.lines import LINE_START, MAX_LINE, first_lines
from service.events.recorder import Recorder
from service.events.types import Facts, UserLogout, new_event_id, now
from service.telemetry.nonblocking import ATOMIC_WRITE


@pytest.mark.parametrize(
    ("data", "limit", "lines"),
    [
        (b"", 10, b""),
        (b"1\n2\n", 10, b"1\n2\n"),
        (b"1\n2\n", 4, b"1\n2\n"),
        (b"1\n2\n", 3, b"1\n"),
        (b"1\n2\n", 2, b"1\n"),
        (b"1\n2\n", 1, b""),
        (b"1\nhalf", 10, b"1\n"),
        (b"half", 10, b""),
    ],
)
def test_the_first_lines_are_the_whole_ones_within_the_limit(data: bytes, limit: int, lines: bytes) -> None:
    assert first_lines(data, limit) == lines


def test_a_line_and_the_newline_that_mends_what_is_before_it_go_into_a_pipe_at_once() -> None:
    assert MAX_LINE + 1 == ATOMIC_WRITE


async def test_every_recorded_line_begins_as_ours_do() -> None:
    """By this a torn line at the end of a file is told from what is not ours."""

    class Log:
        line = b""

        async def append(self, line: bytes) -> bool:
            self.line = line
            return True

    log = Log()
    facts: Facts = {"request_id": "r", "trace_id": None, "origin": None}
    event = UserLogout(event_id=new_event_id(), timestamp=now(), auth="absent", who=None, facts=facts)
    await Recorder(log, "1").record(event)
    assert log.line.startswith(LINE_START)

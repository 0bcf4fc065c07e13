from collections import Counter
from pathlib import Path

import pytest

from tests.benchmarks.verdicts import LogFile, read

LINES = {
    "service": (
        b'{"event":"user_logout","auth":"verified","reason":null,"user_id":"user_1","session_id":"sess_1"}\n'
        b'{"event":"user_logout","auth":"rejected","reason":"token-invalid","user_id":null,"session_id":null}\n'
        b'{"event":"user_logout_suppressed","auth":null,"reason":null,"user_id":null,"session_id":null}\n'
    ),
    "structlog": (
        b'{"auth": "verified", "user_id": "user_1", "session_id": "sess_1", "event": "user_logout"}\n'
        b'{"auth": "rejected", "reason": "Token has expired", "event": "user_logout"}\n'
    ),
    "node": (
        b'{"event":"user_logout","auth":"verified","user_id":"user_1","session_id":"sess_1"}\n'
        b'{"event":"user_logout","auth":"rejected","reason":"token-expired"}\n'
    ),
}


@pytest.mark.parametrize("lines", LINES.values(), ids=list(LINES))
def test_each_contenders_lines_are_read(lines: bytes) -> None:
    verdicts = read(lines)
    assert verdicts.said == Counter(verified=1, rejected=1)
    assert verdicts.users == Counter(user_1=1)


def test_a_user_of_the_next_line_is_not_taken_for_this_ones() -> None:
    assert read(b'{"auth":"verified"}\n{"auth":"rejected","user_id":"user_1"}\n').users == Counter()


def test_a_log_is_emptied_when_its_verdicts_are_taken(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "log")
    with log.path.open("ab") as file:
        for _ in range(2):
            file.write(LINES["node"])
            file.flush()
            assert log.take().said == Counter(verified=1, rejected=1)
            assert log.take().said == Counter()

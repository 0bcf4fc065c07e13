"""Debian's syslog-ng with our configuration: each line of the file is a value in Kafka, unchanged."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipeline.shipping import SyslogNg, kafka, rotate, values
from tests.support.lines import MAX_LINE
from tests.support.processes import wait_until

LINES = [
    b'{"event":"user_logout"}',
    b'{"n":' + b"1" * (MAX_LINE - 7) + b"}",
    '{"user_agent":"ä → 😀"}'.encode(),
    b'{"percent":"%s %25 ${MESSAGE} $1 @define `topic`"}',
    b'{"escaped":"\\u0000 \\\\ \\" \\t"}',
    b"<13>Nov 28 04:57:00 host program[1]: a message of somebody else",
    b'  {"indented":true}  ',
    b'{"event":"user_logout","event_',
    b"\xff\xfe no UTF-8",
]
NOBODY = "127.0.0.1:1"
OLD = "events-20261127-1795755226.jsonl"


@pytest.fixture
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not in ``tmp_path``, whose event files must be whole."""
    logs = tmp_path_factory.mktemp("pipeline") / "logs"
    logs.mkdir()
    return logs


@pytest.fixture
def brokers() -> Iterator[str]:
    with kafka() as brokers:
        yield brokers


def test_each_line_is_a_value_byte_for_byte(brokers: str, logs: Path) -> None:
    (logs / "events.jsonl").write_bytes(b"".join(line + b"\n" for line in LINES))
    with SyslogNg(brokers, logs):
        wait_until(lambda: len(values(brokers)) >= len(LINES), "delivery")
    assert sorted(values(brokers)) == sorted(LINES)


def test_a_renamed_file_is_read_to_its_end(brokers: str, logs: Path) -> None:
    event_log = logs / "events.jsonl"
    event_log.write_bytes(b"1\n")
    with SyslogNg(brokers, logs) as shipper, event_log.open("ab") as still_open:
        wait_until(lambda: b"1" in values(brokers), "delivery")
        assert rotate(logs, shipper).returncode == 0
        still_open.write(b"2\n")  # whoever had it open may not have noticed
        still_open.flush()
        event_log.write_bytes(b"3\n")
        wait_until(lambda: {*values(brokers)} == {b"1", b"2", b"3"}, "delivery")


def test_what_was_read_and_not_taken_survives_a_kill(brokers: str, logs: Path) -> None:
    (logs / "events.jsonl").write_bytes(b"1\n2\n3\n")
    with SyslogNg(NOBODY, logs) as shipper:
        wait_until(lambda: shipper.has_read(3), "reading")
    with SyslogNg(brokers, logs):
        wait_until(lambda: {*values(brokers)} == {b"1", b"2", b"3"}, "delivery")


def test_logrotate_compresses_what_was_rotated_before(brokers: str, logs: Path) -> None:
    (logs / OLD).write_bytes(b"0\n")
    (logs / "events.jsonl").write_bytes(b"1\n")
    with SyslogNg(brokers, logs) as shipper:
        wait_until(lambda: {*values(brokers)} == {b"0", b"1"}, "delivery")
        assert rotate(logs, shipper).stderr == ""
        old, renamed = sorted(logs.iterdir())
        assert old.name == f"{OLD}.gz"
        assert renamed.read_bytes() == b"1\n"
        assert not (logs / "events.jsonl").exists(), "the service makes the next"


@pytest.mark.parametrize("runs", [True, False], ids=["lines wait", "syslog-ng does not run"])
def test_logrotate_leaves_all_as_it_is_until_all_is_shipped(logs: Path, *, runs: bool) -> None:
    (logs / "events.jsonl").write_bytes(b"1\n")
    (logs / OLD).touch()
    with SyslogNg(NOBODY, logs) as shipper:
        wait_until(lambda: shipper.has_read(1), "reading")
        if not runs:
            shipper.kill()
        assert rotate(logs, shipper, attempts=3).returncode == 1
    assert {path.name for path in logs.iterdir()} == {OLD, "events.jsonl"}


def test_logrotate_has_nothing_to_do_without_a_file(logs: Path) -> None:
    with SyslogNg(NOBODY, logs) as shipper:
        done = rotate(logs, shipper)
    assert (done.returncode, done.stderr) == (0, "")

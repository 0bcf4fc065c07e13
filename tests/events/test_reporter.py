import logging

import pytest

from service.events.reporter import Reporter


@pytest.fixture
def reporter() -> Reporter:
    return Reporter("events.jsonl")


def test_all_is_well_says_nothing(reporter: Reporter, caplog: pytest.LogCaptureFixture) -> None:
    reporter.look(None, None, 0)
    assert caplog.records == []


def test_a_log_in_trouble_is_told_once_and_so_is_its_recovery(
    reporter: Reporter, caplog: pytest.LogCaptureFixture
) -> None:
    for trouble in ("its reader is behind", "its reader is behind", None, None):
        reporter.look(trouble, None, 0)
    assert caplog.messages == [
        "the event log (events.jsonl) takes no lines: its reader is behind; events wait in the spool",
        "the event log (events.jsonl) takes lines again, and has taken what waited",
    ]


def test_a_spool_in_trouble_is_told_once_and_so_is_its_recovery(
    reporter: Reporter, caplog: pytest.LogCaptureFixture
) -> None:
    for trouble in ("Permission denied", "Permission denied", None, None):
        reporter.look(None, trouble, 0)
    assert [(record.levelno, record.message) for record in caplog.records] == [
        (logging.ERROR, "the spool takes no lines: Permission denied; what the event log does not take is lost"),
        (logging.WARNING, "the spool takes lines again"),
    ]


def test_losses_are_told_at_once_and_their_end_when_a_look_finds_none(
    reporter: Reporter, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        reporter.losing(None, "No space left on device")
        reporter.lost_one()
    assert len(caplog.messages) == 1
    reporter.look(None, None, 2)
    assert len(caplog.messages) == 1, "some were lost since the last look"
    reporter.look(None, None, 2)
    lost, over = caplog.messages
    assert lost.startswith("events are being lost: neither the event log (events.jsonl: it has to wait for the spool)")
    assert lost.endswith("nor the spool (No space left on device) takes them")
    assert over == "no event was lost lately; 2 were lost so far"

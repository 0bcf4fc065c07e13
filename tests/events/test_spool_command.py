"""``clerk-logout spool``, on directories as version 0.1 left them."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from service.cli import main
from tests.support.spools import claims, contents, holder, leave, line


def spool(action: str, directory: Path) -> Result:
    return CliRunner().invoke(main, ["spool", action, str(directory)])


@pytest.mark.parametrize("action", ["show", "drain"])
def test_what_waits_is_printed_and_drained_but_not_a_living_process_lines(directory: Path, action: str) -> None:
    with holder(directory, line(9)):
        leave(directory, line(1) + line(2), line(3) + b'{"event":"to')
        before = contents(directory)
        result = spool(action, directory)
        assert result.exit_code == 0
        assert result.stdout_bytes == line(1) + line(2) + line(3)
        assert "12 bytes are no event lines" in result.stderr
        assert "left alone, because a process that runs holds them: 1 directories" in result.stderr
        assert contents(directory) == (before if action == "show" else [line(9)])
    assert len(claims(directory)) == (2 if action == "show" else 1)


def test_what_could_not_be_written_stays(directory: Path) -> None:
    leave(directory, line(1))
    (directory / "00000000-0000-7000-8000-000000000000").touch()
    result = spool("drain", directory)
    assert result.exit_code == 1
    assert "the spool was not printed to its end" in result.stderr
    assert contents(directory) == [line(1)]

"""``clerk-logout spool``, and what waits: as a killed process of today leaves it, and as one of each release did."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from service.cli import main
from tests.conftest import OpenClient
from tests.support.lines import EventFile
from tests.support.spools import claims, contents, holder, leave, line

RELEASED = pytest.mark.parametrize(
    "released", sorted(Path("tests/released").glob("spool-*")), ids=lambda path: path.name
)


def spool(action: str, directory: Path) -> Result:
    return CliRunner().invoke(main, ["spool", action, str(directory)])


def leave_again(released: Path, directory: Path) -> bytes:
    """Copy what two processes left, each of which died in the middle of a line; give the lines that were recorded."""
    shutil.copytree(released, directory, dirs_exist_ok=True)
    return b"".join(content[: content.rfind(b"\n") + 1] for content in contents(released))


@RELEASED
@pytest.mark.parametrize("action", ["show", "drain"])
def test_what_waits_is_printed_but_not_what_is_in_use(directory: Path, released: Path, action: str) -> None:
    with holder(directory, line(9)):
        left = leave_again(released, directory)
        result = spool(action, directory)
        assert (result.exit_code, result.stdout_bytes) == (0, left)
        assert "200 bytes are no event lines" in result.stderr
        assert "left alone, because a process that runs holds them: 1 directories" in result.stderr
        assert (len(contents(directory)) == 1) is (action == "drain")
    assert len(claims(directory)) == (1 if action == "drain" else 3)


@RELEASED
async def test_what_a_release_left_is_delivered_at_the_start(
    directory: Path, released: Path, open_client: OpenClient, events: EventFile
) -> None:
    left = leave_again(released, directory)
    async with open_client(event_spool_dir=str(directory)):
        pass
    assert events.path.read_bytes() == left
    assert claims(directory) == []


def test_what_could_not_be_written_stays(directory: Path) -> None:
    leave(directory, line(1))
    (directory / "00000000-0000-7000-8000-000000000000").touch()
    result = spool("drain", directory)
    assert result.exit_code == 1
    assert "the spool was not printed to its end" in result.stderr
    assert contents(directory) == [line(1)]

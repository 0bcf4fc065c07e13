"""``tests/released/spool-*`` is what killed processes of a release left; each later version finds all of its lines."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from service.cli import main
from tests.conftest import OpenClient
from tests.support.lines import EventFile
from tests.support.spools import claims, contents

RELEASED = sorted(Path("tests/released").glob("spool-*"))
TORN = 100
"""Bytes of the last line of each process, which it did not write to the end."""


@pytest.fixture(params=RELEASED, ids=lambda path: path.name)
def left(request: pytest.FixtureRequest, directory: Path) -> bytes:
    """A released spool in ``directory``, and the lines that were recorded in it."""
    shutil.copytree(request.param, directory, dirs_exist_ok=True)
    return b"".join(content[: content.rfind(b"\n") + 1] for content in contents(directory))


@pytest.mark.parametrize("action", ["show", "drain"])
def test_it_is_printed(directory: Path, left: bytes, action: str) -> None:
    done = CliRunner().invoke(main, ["spool", action, str(directory)])
    assert (done.exit_code, done.stdout_bytes) == (0, left)
    assert f"{2 * TORN} bytes are no event lines" in done.stderr
    assert bool(contents(directory)) == (action == "show")


async def test_it_is_delivered_at_the_start(
    directory: Path, left: bytes, open_client: OpenClient, events: EventFile
) -> None:
    async with open_client(event_spool_dir=str(directory)):
        pass
    assert events.path.read_bytes() == left
    assert claims(directory) == []

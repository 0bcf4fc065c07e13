"""Real directories, locks and processes; only what a sick disk answers is put in its mouth."""

import errno
import fcntl
import os
import shutil
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import uuid_utils

from service.endpoints.protocol import RESERVED_FILES
from service.events.outputs import MAX_LINE
from service.events.spool import MAX_ADOPTED, Spool
from tests.events.conftest import OpenSpool
from tests.support.disks import fill, refuse, small_disk
from tests.support.spools import claims, contents, holder, leave, line, numbered, open_files, take_all


def problem(spool: Spool) -> str | None:
    """What it says now; mypy takes an attribute for what it was."""
    return spool.problem


# --- In and out ------------------------------------------------------------------------------------------------------


def test_lines_come_out_in_order_and_stay_until_delivered(open_spool: OpenSpool, directory: Path) -> None:
    spool = open_spool()
    lines = numbered(5, length=1000)
    spool.append(b"".join(lines[:3]))
    spool.append(b"".join(lines[3:]))
    assert contents(directory) == [b"".join(lines)], "on disk when append returns"
    assert spool.next_lines(2500) == spool.next_lines(2500) == b"".join(lines[:2])
    spool.delivered(1000)
    assert spool.size == 4000
    spool.append(line(9, 70))
    assert spool.size == 4070
    assert take_all(spool) == b"".join(lines[1:]) + line(9, 70)
    assert (spool.next_lines(1 << 16), spool.size, contents(directory)) == (b"", 0, [])


@pytest.mark.parametrize("fsync", [True, False])
def test_lines_are_made_durable_where_asked_for(open_spool: OpenSpool, synced: list[Path], *, fsync: bool) -> None:
    spool = open_spool(fsync=fsync)
    synced.clear()
    spool.append(line(1))
    assert [path.suffix for path in synced] == (["", ".jsonl"] if fsync else []), "the directory, then the file"


def test_it_is_for_no_other_eyes(directory: Path) -> None:
    spool = Spool(str(directory / "new" / "spool"), 1 << 30)
    spool.look_after()
    spool.append(line(1))
    (claim,) = claims(directory / "new" / "spool")
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (claim.parent, claim, *claim.iterdir())]
    assert modes == [0o700, 0o700, 0o600]
    spool.close()


# --- What it refuses -------------------------------------------------------------------------------------------------


def test_it_takes_no_more_than_its_bound(open_spool: OpenSpool) -> None:
    spool = open_spool(max_bytes=10_000)
    spool.append(b"".join(numbered(9, length=1000)))
    assert problem(spool) == "it holds EVENT_SPOOL_MAX_BYTES"
    with pytest.raises(OSError, match="EVENT_SPOOL_MAX_BYTES"):
        spool.append(line(9, 1001))
    spool.append(line(9, 1000))
    assert spool.size == 10_000


@pytest.mark.parametrize("call", ["write", "fdatasync", "fsync"])
@pytest.mark.parametrize("can_be_cut_off", [True, False])
def test_what_a_failed_append_left_is_never_delivered(
    open_spool: OpenSpool, monkeypatch: pytest.MonkeyPatch, call: str, *, can_be_cut_off: bool
) -> None:
    spool = open_spool(fsync=True)
    if call != "fsync":  # of the directory, for a new segment
        spool.append(line(1))
    really_write, counts = os.write, iter([10, 7])

    def write_some(descriptor: int, data: bytes) -> int:
        if (count := next(counts, None)) is None:
            raise OSError(errno.EIO, "Input/output error")
        return really_write(descriptor, data[:count])

    with monkeypatch.context() as patch:
        patch.setattr(os, call, write_some if call == "write" else refuse(errno.EIO))
        if not can_be_cut_off:
            patch.setattr(os, "ftruncate", refuse(errno.EIO))
        with pytest.raises(OSError, match="Input/output"):
            spool.append(line(2))
    assert problem(spool) == "Input/output error"
    spool.append(line(3))
    before = b"" if call == "fsync" else line(1)
    if can_be_cut_off:
        spool.close()
        spool = open_spool()
    assert take_all(spool) == before + line(3)
    assert spool.size == 0


def test_a_disk_without_locks_takes_no_lines(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(str(directory), 1 << 30)
    assert problem(spool) == "not opened yet"
    before = open_files()
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", refuse(errno.ENOLCK))
        spool.look_after()
    assert problem(spool) == "No locks available"
    assert open_files() == before
    assert list(directory.iterdir()) == []
    spool.append(line(1))
    assert problem(spool) is None
    spool.close()


@pytest.mark.parametrize("tidy", ["our directory", "all", "a link in its place"])
def test_a_directory_that_was_removed_is_made_anew(open_spool: OpenSpool, directory: Path, tidy: str) -> None:
    """What has been read already is delivered, what was lost with it is told."""
    spool = open_spool()
    spool.append(line(1))
    first = spool.next_lines(1 << 16)
    spool.append(line(2))
    (claim,) = claims(directory)
    if tidy == "a link in its place":
        claim.rename(directory / "moved")
        claim.symlink_to(directory / "nowhere")
    else:
        shutil.rmtree(directory if tidy == "all" else claim)
    spool.append(line(3))
    assert problem(spool) is None
    spool.delivered(len(first))
    assert take_all(spool) == line(3)
    assert spool.size == 0


# --- Whose directory it is -------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a directory to another user")
@pytest.mark.parametrize("when", ["at the start", "later"])
def test_a_spool_of_another_user_takes_no_lines(directory: Path, when: str) -> None:
    """Anybody may make the default directory in /var/tmp first, and would own what is put there."""
    spool = Spool(str(directory), 1 << 30)
    if when == "later":
        spool.look_after()
        spool.append(line(1))
    os.chown(directory, 12345, 12345)
    leave(directory, line(2))
    spool.look_after()
    assert problem(spool) == "it belongs to another user"
    with pytest.raises(PermissionError, match="it belongs to another user"):
        spool.append(line(3))
    os.chown(directory, 0, 0)
    spool.look_after()
    assert problem(spool) is None
    spool.close()


@pytest.mark.parametrize("kind", ["a link", "a file"])
def test_what_is_no_directory_takes_no_lines(directory: Path, kind: str) -> None:
    target, place = directory / "target", directory / "spool"
    target.mkdir()
    place.touch() if kind == "a file" else place.symlink_to(target)
    spool = Spool(str(place), 1 << 30)
    spool.look_after()
    assert problem(spool) == "it is no directory, or a symbolic link"
    with pytest.raises(OSError, match="symbolic link"):
        spool.append(line(1))
    assert list(target.iterdir()) == []


# --- What cannot be read ---------------------------------------------------------------------------------------------


def test_a_segment_that_cannot_be_read_is_set_aside(
    open_spool: OpenSpool, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    left = leave(directory, line(1), line(2))
    spool = open_spool()
    caplog.clear()
    (left / "00000001.jsonl").unlink()
    (left / "00000001.jsonl").mkdir()
    assert take_all(spool) == line(2)
    assert spool.size == 0
    assert (left / "00000001.unreadable").exists()
    assert caplog.messages == [
        f"events in the spool cannot be read and are set aside: {left / '00000001.jsonl'}: Is a directory"
    ]


def test_too_many_open_files_set_no_segment_aside(
    open_spool: OpenSpool, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(directory, line(1))
    spool = open_spool()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse(errno.EMFILE))
        with pytest.raises(OSError, match="Too many open files"):
            spool.next_lines(1 << 16)
    assert take_all(spool) == line(1)


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b'{"event":"te', id="torn"),
        pytest.param(bytes(500) + b"\n", id="zeros and a newline"),
        pytest.param(b'{"event":"test"}{"event":"test"}\n', id="glued"),
        pytest.param(b'{"event":"\xff"}\n', id="no UTF-8"),
        pytest.param(line(1, MAX_LINE + 1), id="too long"),
    ],
)
def test_what_is_no_event_line_is_passed_over_with_one_warning(
    open_spool: OpenSpool, directory: Path, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    middle = line(2) if garbage.endswith(b"\n") else b""
    leave(directory, line(1) + garbage + middle, line(3))
    spool = open_spool()
    caplog.clear()
    assert take_all(spool) == line(1) + middle + line(3)
    assert caplog.messages == [f"{len(garbage)} bytes in the spool were no event line and were skipped"]
    assert spool.size == 0


# --- What dead processes leave ---------------------------------------------------------------------------------------


def test_lines_of_a_killed_process_are_adopted_of_no_living_one(open_spool: OpenSpool, directory: Path) -> None:
    with holder(directory, line(1)) as process, holder(directory, line(9)):
        spool = open_spool()
        assert take_all(spool) == b""
        process.kill()
        process.wait()
        spool.look_after()
        assert take_all(spool) == line(1)


def test_of_two_processes_only_one_gets_what_was_left(directory: Path) -> None:
    """Twenty threads with a spool each: flock(2) goes by open file description, not by process."""
    expected = numbered(20)
    for one in expected:
        leave(directory, one)
    start = threading.Barrier(20)

    def adopt(_: int) -> bytes:
        spool = Spool(str(directory), 1 << 30)
        start.wait()
        spool.look_after()
        taken = take_all(spool)
        spool.close()
        return taken

    with ThreadPoolExecutor(20) as pool:
        taken = list(pool.map(adopt, range(20)))
    assert sorted(b"".join(taken).splitlines(keepends=True)) == sorted(expected)
    assert claims(directory) == []


def test_the_oldest_comes_first_and_what_is_adopted_last(open_spool: OpenSpool, directory: Path) -> None:
    leave(directory, line(1), line(2))
    leave(directory, line(3), b"")
    spool = open_spool()
    spool.append(line(4))
    assert spool.next_lines(60) == line(1)
    leave(directory, line(5))
    spool.look_after()
    spool.delivered(60)
    spool.append(line(6))
    assert take_all(spool) == b"".join(numbered(5, start=2))
    assert spool.size == 0
    spool.look_after()
    assert len(claims(directory)) == 1, "only our own is left"


def test_what_is_none_of_ours_is_left_alone(
    open_spool: OpenSpool, directory: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever names /var/tmp or a home directory must not lose what is there."""
    odd = leave(directory, line(1))
    (odd / "00000002.5.jsonl").mkdir()
    os.mkfifo(odd / "00000005.jsonl")
    elsewhere, project = leave(tmp_path / "elsewhere", b""), directory / "project"
    (directory / str(uuid_utils.uuid7())).symlink_to(elsewhere)
    project.mkdir()
    (project / "data.jsonl").write_bytes(line(2))
    (odd / "00000006.jsonl").symlink_to(project / "data.jsonl")
    foreign = leave(directory, line(3))
    os.chown(foreign, 12345, 12345) if os.geteuid() == 0 else foreign.chmod(0o000)
    spool = open_spool()
    spool.look_after()
    assert problem(spool) is None
    assert take_all(spool) == line(1)
    assert [path.exists() for path in (elsewhere, project / "data.jsonl", foreign)] == [True] * 3
    assert caplog.text.count("a directory in the spool is left alone") == 2


def test_a_disk_that_the_spool_has_filled_becomes_free_again(directory: Path) -> None:
    """It takes all or nothing of what is new, and what was left is delivered."""
    with small_disk(directory):
        leave(directory, line(1))
        ballast = fill(directory)
        spool = Spool(str(directory), 1 << 30)
        spool.look_after()
        with pytest.raises(OSError, match="No space left"):
            spool.append(b"".join(numbered(100, length=1000)))
        assert problem(spool) == "No space left on device"
        assert take_all(spool) == line(1)
        ballast.unlink()
        spool.append(line(3))
        assert problem(spool) is None
        assert take_all(spool) == line(3)
        spool.close()


def test_of_very_much_that_was_left_a_look_takes_over_a_part(open_spool: OpenSpool, directory: Path) -> None:
    """So that it takes neither all open files nor the time of new lines. What is empty goes at once."""
    assert MAX_ADOPTED < RESERVED_FILES / 3, "the service has some twenty open without them"
    before = open_files()
    lines = numbered(MAX_ADOPTED + 5)
    for one in lines:
        leave(directory, one)
    for number in range(MAX_ADOPTED):
        (directory / f"00000000-0000-7000-8000-{number:012}").mkdir()
    spool = open_spool()
    assert open_files() == before + MAX_ADOPTED + 1
    assert take_all(spool) == b"".join(lines[:MAX_ADOPTED])
    spool.look_after()
    assert take_all(spool) == b"".join(lines[MAX_ADOPTED:])


def test_an_end_repeats_little_of_what_a_slow_reader_took(open_spool: OpenSpool) -> None:
    """Or it would never get past what every restart repeats."""
    first = open_spool()
    for one in numbered(3000, length=700):
        first.append(one)
    while first.size > 100_000:
        first.delivered(len(first.next_lines(4096)))
    first.close()
    assert open_spool().size <= 100_000 + (256 << 10)


def test_an_end_in_the_middle_of_a_segment_repeats_it_whole(open_spool: OpenSpool, directory: Path) -> None:
    lines = b"".join(numbered(10))
    first = open_spool()
    first.append(lines)
    first.delivered(len(first.next_lines(250)))
    first.close()
    second = open_spool()
    assert take_all(second) == lines
    second.close()
    assert list(directory.iterdir()) == [], "nothing half made is left"

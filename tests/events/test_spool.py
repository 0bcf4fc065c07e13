"""Real directories, locks and processes; only what a sick disk answers is put in its mouth."""

import errno
import fcntl
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uuid_utils

from service.events.outputs import MAX_LINE
from service.events.spool import MAX_ADOPTED, SEGMENT_BYTES, Spool
from tests.events.conftest import OpenSpool
from tests.support.disks import fill, small_disk
from tests.support.spools import claims, contents, holder, leave, line, numbered, open_files, take_all


def problem(spool: Spool) -> str | None:
    """What it says now; mypy takes an attribute for what it was."""
    return spool.problem


def refuse(number: int) -> Callable[..., Any]:
    """A system call that fails."""

    def call(*_: object, **__: object) -> object:
        raise OSError(number, os.strerror(number))

    return call


# --- In and out ------------------------------------------------------------------------------------------------------


def test_lines_come_out_in_the_order_in_which_they_went_in(open_spool: OpenSpool) -> None:
    spool = open_spool()
    lines = numbered(10)
    for some in (lines[:4], lines[4:5], lines[5:]):
        spool.append(b"".join(some))
    assert take_all(spool) == b"".join(lines)
    assert spool.next_lines(1 << 16) == b""


def test_only_whole_lines_come_out_and_stay_until_they_are_delivered(open_spool: OpenSpool, directory: Path) -> None:
    spool = open_spool()
    lines = numbered(5, length=1000)
    spool.append(b"".join(lines))
    assert contents(directory) == [b"".join(lines)], "on disk when append returns"
    assert spool.next_lines(2500) == spool.next_lines(2500) == b"".join(lines[:2])
    spool.delivered(1000)
    assert spool.size == 4000
    spool.append(line(9, 70))
    assert spool.size == 4070
    assert take_all(spool) == b"".join(lines[1:]) + line(9, 70)
    assert spool.size == 0
    assert contents(directory) == []


def test_many_lines_are_several_segments_and_each_goes_when_it_was_delivered(
    open_spool: OpenSpool, directory: Path
) -> None:
    spool = open_spool()
    batch = b"".join(numbered(256, length=4000))
    while spool.size < 2 * SEGMENT_BYTES:
        spool.append(batch)
    size = spool.size
    first, second = (segment.stat().st_size for segment in sorted(directory.glob("*/*.jsonl")))
    assert first >= SEGMENT_BYTES
    assert first + second == size
    content = b""
    while lines := spool.next_lines(1 << 16):
        content += lines
        spool.delivered(len(lines))
        left = 2 if len(content) < first else 1 if len(content) < size else 0
        assert len(list(directory.glob("*/*.jsonl"))) == left
    assert content == batch * (size // len(batch))
    assert spool.size == 0


def test_it_is_for_no_other_eyes(directory: Path) -> None:
    spool = Spool(str(directory / "new" / "spool"), 1 << 30)
    spool.look_after()
    spool.append(line(1))
    (claim,) = claims(directory / "new" / "spool")
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (claim.parent, claim, *sorted(claim.iterdir()))]
    assert modes == [0o700, 0o700, 0o600]
    spool.close()


@pytest.mark.parametrize("fsync", [True, False])
def test_lines_are_made_durable_where_asked_for(
    open_spool: OpenSpool, monkeypatch: pytest.MonkeyPatch, *, fsync: bool
) -> None:
    synced: list[str] = []

    def remember(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().suffix)

    spool = open_spool(fsync=fsync)
    monkeypatch.setattr(os, "fdatasync", remember)
    monkeypatch.setattr(os, "fsync", remember)
    spool.append(line(1))
    assert synced == (["", ".jsonl"] if fsync else []), "the directory, then the file"


# --- What it refuses -------------------------------------------------------------------------------------------------


def test_it_takes_no_more_than_its_bound(open_spool: OpenSpool) -> None:
    spool = open_spool(max_bytes=10_000)
    assert problem(spool) is None
    spool.append(b"".join(numbered(9, length=1000)))
    assert problem(spool) == "it holds EVENT_SPOOL_MAX_BYTES"
    with pytest.raises(OSError, match="EVENT_SPOOL_MAX_BYTES"):
        spool.append(line(9, 1001))
    spool.append(line(9, 1000))
    assert spool.size == 10_000


def test_the_bound_is_for_all_processes_that_share_it(open_spool: OpenSpool, directory: Path) -> None:
    with holder(directory, b"".join(numbered(9, length=1000)).decode().encode()):
        spool = open_spool(max_bytes=10_000)
        assert spool.size == 0
        assert problem(spool) == "it holds EVENT_SPOOL_MAX_BYTES"
        with pytest.raises(OSError, match="EVENT_SPOOL_MAX_BYTES"):
            spool.append(line(9, 1001))
        spool.append(line(9, 1000))


def test_a_full_disk_takes_all_or_nothing(directory: Path) -> None:
    with small_disk(directory):
        spool = Spool(str(directory), 1 << 30)
        spool.look_after()
        spool.append(line(1))
        ballast = fill(directory)
        with pytest.raises(OSError, match="No space left"):
            spool.append(b"".join(numbered(100, length=1000, start=2)))
        assert problem(spool) == "No space left on device"
        assert spool.size == len(line(1))
        ballast.unlink()
        spool.append(line(3))
        assert problem(spool) is None
        assert take_all(spool) == line(1) + line(3)
        spool.close()


@pytest.mark.parametrize("call", ["write", "fdatasync", "fsync"])
@pytest.mark.parametrize("can_be_cut_off", [True, False])
def test_what_a_failed_append_left_is_neither_delivered_nor_adopted(
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


@pytest.mark.parametrize(
    ("where", "call", "number", "text"),
    [
        pytest.param(fcntl, "flock", errno.ENOLCK, "No locks available", id="a disk without locks"),
        pytest.param(os, "open", errno.EMFILE, "Too many open files", id="many files open elsewhere"),
    ],
)
def test_a_directory_that_cannot_be_locked_leaves_nothing_behind(
    directory: Path, monkeypatch: pytest.MonkeyPatch, *, where: Any, call: str, number: int, text: str
) -> None:
    spool = Spool(str(directory), 1 << 30)
    assert problem(spool) == "not opened yet"
    before = open_files()
    with monkeypatch.context() as patch:
        patch.setattr(where, call, refuse(number))
        spool.look_after()
        spool.look_after()
    assert problem(spool) == text
    assert open_files() == before
    assert list(directory.iterdir()) == []
    spool.append(line(1))
    assert problem(spool) is None
    spool.close()


def test_a_place_that_is_no_directory_is_a_problem(directory: Path) -> None:
    (directory / "file").touch()
    spool = Spool(str(directory / "file"), 1 << 30)
    spool.look_after()
    assert problem(spool) == "it is no directory, or a symbolic link"
    with pytest.raises(OSError, match="it is no directory, or a symbolic link"):
        spool.append(line(1))
    spool.close()


@pytest.mark.parametrize("removed", ["the directory of the process", "all"])
@pytest.mark.parametrize("look", [True, False])
def test_a_directory_that_was_removed_is_made_anew(
    open_spool: OpenSpool, directory: Path, removed: str, *, look: bool
) -> None:
    """Somebody tidies up."""
    spool = open_spool()
    (claim,) = claims(directory)
    shutil.rmtree(directory if removed == "all" else claim)
    if look:
        spool.look_after()
    spool.append(line(1))
    assert problem(spool) is None
    assert take_all(spool) == line(1)


def test_lines_in_a_directory_that_was_removed_are_told_and_forgotten(
    open_spool: OpenSpool, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What is open already is delivered all the same."""
    spool = open_spool()
    batch = b"".join(numbered(256, length=4096))
    for _ in range(3):
        spool.append(batch)
    lines = spool.next_lines(1 << 16)
    shutil.rmtree(directory)
    spool.look_after()
    spool.append(line(999))
    spool.delivered(len(lines))
    assert lines + take_all(spool) == batch + line(999)
    assert spool.size == 0
    assert [message.split(":")[0] for message in caplog.messages] == [
        "events in the spool cannot be read and are set aside"
    ] * 2


# --- What cannot be read ---------------------------------------------------------------------------------------------


def test_a_segment_that_cannot_be_read_is_set_aside(
    open_spool: OpenSpool, directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    left = leave(directory, line(1), line(2))
    spool = open_spool()
    really_read = os.pread

    def read(descriptor: int, count: int, offset: int) -> bytes:
        if Path(f"/proc/self/fd/{descriptor}").readlink().name == "00000001.jsonl":
            raise OSError(errno.EIO, "Input/output error")
        return really_read(descriptor, count, offset)

    monkeypatch.setattr(os, "pread", read)
    caplog.clear()
    assert take_all(spool) == line(2)
    assert spool.size == 0
    aside = left / "00000001.unreadable"
    assert aside.read_bytes() == line(1)
    assert caplog.messages == [
        f"events in the spool cannot be read and are set aside: {left / '00000001.jsonl'}: Input/output error"
    ]


def test_too_many_open_files_are_no_reason_to_set_a_segment_aside(
    open_spool: OpenSpool, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(directory, line(1))
    spool = open_spool()
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse(errno.EMFILE))
        with pytest.raises(OSError, match="Too many open files"):
            spool.next_lines(1 << 16)
    assert take_all(spool) == line(1)


def test_a_segment_of_our_own_that_somebody_emptied_holds_nobody_up(
    open_spool: OpenSpool, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = open_spool()
    spool.append(line(1))
    (segment,) = directory.glob("*/*.jsonl")
    segment.write_bytes(b"")
    assert spool.next_lines(1 << 16) == b""
    assert spool.size == 0
    assert caplog.messages == ["60 bytes in the spool were no event line and were skipped"]


# --- What dead processes leave ---------------------------------------------------------------------------------------


def test_what_a_killed_process_left_is_adopted_at_the_start(
    open_spool: OpenSpool, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = b"".join(numbered(3))
    with holder(directory, lines) as process:
        process.kill()
        process.wait()
    spool = open_spool()
    assert caplog.messages == ["180 bytes of events that a process left behind are delivered now"]
    assert spool.size == 180
    assert take_all(spool) == lines
    assert len(claims(directory)) == 1


def test_what_a_killed_process_left_is_adopted_while_we_run(open_spool: OpenSpool, directory: Path) -> None:
    with holder(directory, line(1)) as process:
        spool = open_spool()
        assert take_all(spool) == b""
        process.kill()
        process.wait()
        spool.look_after()
        assert take_all(spool) == line(1)


def test_what_a_living_process_holds_is_left_alone(open_spool: OpenSpool, directory: Path) -> None:
    with holder(directory, line(1)):
        spool = open_spool()
        spool.append(line(2))
        spool.look_after()
        assert take_all(spool) == line(2)
        assert len(claims(directory)) == 2


def test_of_several_the_oldest_comes_first_and_our_own_last(open_spool: OpenSpool, directory: Path) -> None:
    leave(directory, line(1), line(2))
    leave(directory, line(3))
    spool = open_spool()
    spool.append(line(9))
    assert take_all(spool) == line(1) + line(2) + line(3) + line(9)


def test_of_two_processes_only_one_gets_what_was_left(directory: Path) -> None:
    """Twenty threads with a spool each: flock(2) goes by open file description, not by process."""
    expected = []
    for number in range(20):
        leave(directory, line(number))
        expected.append(line(number))
    start = threading.Barrier(20)
    taken: list[bytes] = []

    def adopt() -> None:
        spool = Spool(str(directory), 1 << 30)
        start.wait()
        spool.look_after()
        taken.append(take_all(spool))
        spool.close()

    threads = [threading.Thread(target=adopt) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(b"".join(taken).splitlines(keepends=True)) == sorted(expected)
    assert claims(directory) == []


def test_lines_that_are_being_delivered_stay_the_ones_that_are_when_others_are_adopted(
    open_spool: OpenSpool, directory: Path
) -> None:
    spool = open_spool()
    spool.append(line(1, 100))
    lines = spool.next_lines(1 << 16)
    leave(directory, line(2, 60), line(3, 70))
    spool.look_after()
    spool.delivered(len(lines))
    assert take_all(spool) == line(2, 60) + line(3, 70)
    assert spool.size == 0


def test_what_was_delivered_of_a_segment_is_not_left_to_the_next(open_spool: OpenSpool, directory: Path) -> None:
    """Or a slow reader would never get past what every restart repeats."""
    first = open_spool()
    first.append(b"".join(numbered(10)))
    first.delivered(len(first.next_lines(250)))
    first.close()
    assert contents(directory) == [b"".join(numbered(6, start=4))]
    second = open_spool()
    assert take_all(second) == b"".join(numbered(6, start=4))
    second.close()
    assert list(directory.iterdir()) == []


def test_what_was_delivered_comes_again_where_it_cannot_be_cut_off(
    open_spool: OpenSpool, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    first = open_spool()
    first.append(b"".join(numbered(10)))
    first.delivered(len(first.next_lines(250)))
    monkeypatch.setattr(os, "fdatasync", refuse)
    first.close()
    monkeypatch.undo()
    second = open_spool()
    assert take_all(second) == b"".join(numbered(10))
    second.close()
    assert list(directory.iterdir()) == [], "nothing half made is left"


def test_what_is_empty_or_no_file_is_removed_or_left_alone(
    open_spool: OpenSpool, directory: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    empty = leave(directory)
    (empty / "probe").touch()
    nothing = leave(directory, b"")
    odd = leave(directory, b"", line(1), b"")
    (odd / "00000002.5.jsonl").mkdir()
    os.mkfifo(odd / "00000000.jsonl")
    elsewhere = leave(tmp_path / "elsewhere", b"")
    (directory / str(uuid_utils.uuid7())).symlink_to(elsewhere)
    (directory / str(uuid_utils.uuid7())).write_bytes(line(1))
    spool = open_spool()
    assert problem(spool) is None
    assert take_all(spool) == line(1)
    assert spool.size == 0
    assert not empty.exists()
    assert not nothing.exists()
    assert elsewhere.exists()
    assert sum("is left alone" in message for message in caplog.messages) == 2


def test_a_directory_of_another_name_is_left_alone(open_spool: OpenSpool, directory: Path) -> None:
    """Whoever names /var/tmp or a home directory must not lose what is there."""
    (directory / "empty").mkdir()
    project = directory / "project"
    project.mkdir()
    for name in ("lock", "data.jsonl", "probe"):
        (project / name).write_bytes(line(1))
    spool = open_spool()
    assert take_all(spool) == b""
    assert (directory / "empty").exists()
    assert sorted(path.name for path in project.iterdir()) == ["data.jsonl", "lock", "probe"]


def test_a_directory_of_another_user_is_left_alone_and_said_once(
    open_spool: OpenSpool, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may give a directory to another user")
    left = leave(directory, line(1))
    os.chown(left, 12345, 12345)
    spool = open_spool()
    spool.look_after()
    assert take_all(spool) == b""
    assert caplog.messages == [f"a directory in the spool is left alone: {left.name}: it belongs to another user"]


@pytest.mark.parametrize("when", ["at the start", "later"])
def test_a_spool_of_another_user_takes_no_lines(tmp_path_factory: pytest.TempPathFactory, when: str) -> None:
    """Anybody may make the default directory in /var/tmp first, and would own what is put there."""
    if os.geteuid() != 0:
        pytest.skip("only root may give a directory to another user")
    directory = tmp_path_factory.mktemp("foreign")
    spool = Spool(str(directory), 1 << 30)
    if when == "later":
        spool.look_after()
        spool.append(line(1))
        assert problem(spool) is None
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


@pytest.mark.parametrize("dangling", [False, True])
def test_a_spool_that_is_a_symbolic_link_takes_no_lines(
    tmp_path_factory: pytest.TempPathFactory, *, dangling: bool
) -> None:
    parent = tmp_path_factory.mktemp("links")
    target = parent / "target"
    if not dangling:
        target.mkdir()
    link = parent / "spool"
    link.symlink_to(target)
    spool = Spool(str(link), 1 << 30)
    spool.look_after()
    assert problem(spool) == "it is no directory, or a symbolic link"
    with pytest.raises(OSError, match="symbolic link"):
        spool.append(line(1))
    assert not dangling or not target.exists()
    assert dangling or list(target.iterdir()) == []


def test_our_directory_replaced_by_a_symbolic_link_to_it_is_made_anew(open_spool: OpenSpool, directory: Path) -> None:
    spool = open_spool()
    (ours,) = claims(directory)
    ours.rename(directory / "moved")
    ours.symlink_to(directory / "moved")
    spool.append(line(1))
    assert list((directory / "moved").iterdir()) == []


def test_of_very_many_left_directories_some_are_held_at_a_time(open_spool: OpenSpool, directory: Path) -> None:
    count = MAX_ADOPTED + 5
    for number in range(count):
        leave(directory, line(number))
    before = open_files()
    spool = open_spool()
    assert open_files() - before <= MAX_ADOPTED + 1
    delivered = take_all(spool)
    assert delivered == b"".join(line(number) for number in range(MAX_ADOPTED))
    spool.look_after()
    assert take_all(spool) == b"".join(line(number) for number in range(MAX_ADOPTED, count))
    assert len(claims(directory)) == 1


def test_one_look_goes_through_a_bounded_number_of_directories(open_spool: OpenSpool, directory: Path) -> None:
    for _ in range(MAX_LOOKED_AT + 5):
        (directory / str(uuid_utils.uuid7())).mkdir()
    spool = open_spool()
    assert len(claims(directory)) == 5 + 1
    spool.look_after()
    assert len(claims(directory)) == 1


def test_a_directory_that_cannot_be_locked_does_not_stand_in_the_way_of_others(
    open_spool: OpenSpool, directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    odd = leave(directory, line(1))
    leave(directory, line(2))
    really_flock = fcntl.flock

    def flock(descriptor: int, operation: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink() == odd:
            raise OSError(errno.EIO, "Input/output error")
        really_flock(descriptor, operation)

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", flock)
        spool = open_spool()
        spool.look_after()
    assert take_all(spool) == line(2)
    assert problem(spool) is None
    assert caplog.messages[0] == f"a directory in the spool is left alone: {odd.name}: Input/output error"
    assert len(caplog.messages) == 2, "said once, beside what was adopted"


def test_what_was_left_is_adopted_even_where_no_directory_can_be_made(
    open_spool: OpenSpool, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that the spool itself has filled must become free again."""
    leave(directory, line(1))
    really_mkdir = Path.mkdir

    def mkdir(path: Path, mode: int = 0o777, *, parents: bool = False, exist_ok: bool = False) -> None:
        if path.parent == directory:
            raise OSError(errno.ENOSPC, "No space left on device")
        really_mkdir(path, mode, parents, exist_ok)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    spool = open_spool()
    assert problem(spool) == "No space left on device"
    assert take_all(spool) == line(1)


GARBAGE = [
    pytest.param(b'{"event":"te', id="torn"),
    pytest.param(b'{"event":"test"}', id="whole but without its newline"),
    pytest.param(bytes(500), id="zeros"),
    pytest.param(bytes(500) + b"\n", id="zeros and a newline"),
    pytest.param(b"garbage\n", id="garbage"),
    pytest.param(b'{"event":"test",}\n', id="no JSON"),
    pytest.param(b'{"event":"test"}{"event":"test"}\n', id="glued"),
    pytest.param(b'{"event":"te\r\n', id="carriage return"),
    pytest.param(b'{"event":"\xff"}\n', id="no UTF-8"),
    pytest.param(b"\n", id="empty line"),
    pytest.param(line(1, MAX_LINE + 1), id="too long"),
]


@pytest.mark.parametrize("garbage", GARBAGE)
def test_what_is_no_event_line_in_a_left_directory_is_passed_over(
    open_spool: OpenSpool, directory: Path, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    leave(directory, line(1) + line(2) + garbage, line(3))
    spool = open_spool()
    caplog.clear()
    assert take_all(spool) == line(1) + line(2) + line(3)
    assert caplog.messages == [f"{len(garbage)} bytes in the spool were no event line and were skipped"]
    assert spool.size == 0


@pytest.mark.parametrize("garbage", [b"\n" * 1000, b"#" * 200_000 + b"\n"], ids=["many lines", "one long line"])
def test_garbage_before_a_line_is_skipped_with_one_warning(
    open_spool: OpenSpool, directory: Path, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    leave(directory, line(1) + garbage + line(2))
    spool = open_spool()
    caplog.clear()
    assert take_all(spool) == line(1) + line(2)
    assert caplog.messages == [f"{len(garbage)} bytes in the spool were no event line and were skipped"]
    assert spool.size == 0


def test_a_spool_that_dies_in_the_middle_of_a_segment_repeats_it_at_the_most(
    open_spool: OpenSpool, directory: Path
) -> None:
    program = (
        "import os, sys; from service.events.spool import Spool; s = Spool(sys.argv[1], 1 << 30); s.look_after();"
        "s.delivered(len(s.next_lines(100))); os.kill(os.getpid(), 9)"
    )
    leave(directory, line(1, 80) + line(2, 80))
    done = subprocess.run([sys.executable, "-c", program, str(directory)], check=False, capture_output=True)
    assert done.returncode == -9
    assert take_all(open_spool()) == line(1, 80) + line(2, 80)


# --- Descriptors and races -------------------------------------------------------------------------------------------


def test_it_closes_what_it_opened(directory: Path) -> None:
    before = open_files()
    leave(directory, line(1), line(2))
    leave(directory, line(3))
    spool = Spool(str(directory), 1 << 30)
    spool.look_after()
    spool.next_lines(1 << 16)
    spool.append(line(4))
    spool.close()
    assert open_files() == before


def test_nothing_is_handed_down_to_child_processes(open_spool: OpenSpool, directory: Path) -> None:
    """A child that lives on would hold the lock of a dead process."""
    leave(directory, line(1))
    spool = open_spool()
    spool.next_lines(1 << 16)
    spool.append(line(2))
    program = "import os; print([os.readlink(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd') if int(n) > 3])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, close_fds=False)
    assert str(directory) not in done.stdout


def test_a_segment_that_is_delivered_while_it_is_counted_counts_nothing(
    open_spool: OpenSpool, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with holder(directory, b"".join(numbered(9, length=1000))):
        really_lstat = Path.lstat

        def lstat(path: Path) -> os.stat_result:
            if path.suffix == ".jsonl":
                path.unlink()
            return really_lstat(path)

        monkeypatch.setattr(Path, "lstat", lstat)
        assert open_spool(max_bytes=10_000).problem is None

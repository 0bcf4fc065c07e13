"""Files and pipes as they are; only what they do rarely is put in their mouth."""

import contextlib
import errno
import fcntl
import os
import pty
import select
import socket
import stat
import subprocess
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.events.lines import LINE_START, MAX_LINE
from service.events.outputs import FILE_WRITE, LogFile, Output, StandardOutput, open_output
from service.telemetry.nonblocking import ATOMIC_WRITE
from tests.support.disks import small_disk
from tests.support.spools import line, numbered, open_files

LONG = 4000


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """The reader's and the writer's descriptor."""
    reader, writer = os.pipe()
    yield reader, writer
    for descriptor in (reader, writer):
        os.close(descriptor)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.log"


@pytest.fixture
def file(path: Path) -> Iterator[LogFile]:
    output = LogFile(str(path))
    yield output
    output.close()


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """A terminal that changes nothing of what is written to it: its reader's and its writer's descriptor."""
    reader, writer = pty.openpty()
    tty.setraw(writer, termios.TCSANOW)
    yield reader, writer
    os.close(reader)
    os.close(writer)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def as_standard_output(descriptor: int) -> Iterator[None]:
    """Give this process another standard output, as a shell's redirection does."""
    before = os.dup(1)
    os.dup2(descriptor, 1)
    try:
        yield
    finally:
        os.dup2(before, 1)
        os.close(before)


def flags(descriptor: int) -> int:
    return fcntl.fcntl(descriptor, fcntl.F_GETFL)


def read_all(descriptor: int) -> bytes:
    """Read what is there."""
    content = b""
    while select.select([descriptor], [], [], 0.05)[0]:
        content += os.read(descriptor, 1 << 16)
    return content


def write_until_behind(output: Output, lines: list[bytes]) -> list[bytes]:
    """Write one by one until the reader is behind; give those that were not taken."""
    left = list(lines)
    with contextlib.suppress(BlockingIOError):
        while left:
            assert output.write(left[0]) == len(left[0])
            left.pop(0)
    assert left, "the reader is never behind"
    return left


def write_all(output: Output, lines: list[bytes], read: Callable[[], bytes]) -> bytes:
    """Write as the event log does, again from what was not taken; give what was read meanwhile."""
    data, content = b"".join(lines), b""
    while data:
        try:
            data = data[output.write(data[: data.rfind(b"\n", 0, output.max_write) + 1]) :]
        except BlockingIOError:
            content += read()
    return content + read()


def append_to(path: Path, content: bytes) -> None:
    """Do what another process does."""
    with path.open("ab") as file:
        file.write(content)


def refuse(number: int) -> Callable[..., int]:
    """A system call that fails."""

    def call(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    return call


def take_part(count: int) -> Callable[[int, bytes], int]:
    """A write(2) that takes only so many bytes, once."""
    really_write = os.write
    counts = iter([count])
    return lambda descriptor, data: really_write(descriptor, data[: next(counts, len(data))])


# --- Standard output -------------------------------------------------------------------------------------------------


def test_standard_output_writes_to_the_pipe_behind_the_descriptor(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    output = StandardOutput(writer)
    assert output.write(b"line\n") == 5
    assert os.read(reader, 100) == b"line\n"
    output.close()


def test_a_pipe_is_written_to_in_the_event_loop(pipe: tuple[int, int]) -> None:
    output = StandardOutput(pipe[1])
    assert not output.may_block
    output.close()


def test_standard_output_does_not_block_on_a_full_pipe(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    output = StandardOutput(writer)
    assert output.write(b"#" * 4095 + b"\n") == 4096
    with pytest.raises(BlockingIOError):
        output.write(b"line\n")
    assert os.read(reader, 10_000) == b"#" * 4095 + b"\n"
    output.close()


def test_a_reader_that_has_gone_is_an_error() -> None:
    reader, writer = os.pipe()
    output = StandardOutput(writer)
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        output.write(b"line\n")
    output.close()
    os.close(writer)


def test_the_inherited_description_stays_blocking(pipe: tuple[int, int]) -> None:
    """Every process that shares it would see ``O_NONBLOCK``."""
    _, writer = pipe
    before = flags(writer)
    output = StandardOutput(writer)
    assert flags(output.fileno()) & os.O_NONBLOCK
    assert flags(writer) == before
    assert not flags(writer) & os.O_NONBLOCK
    output.close()


def test_closing_leaves_the_descriptor_itself_open(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    StandardOutput(writer).close()
    os.write(writer, b"still here")
    assert os.read(reader, 100) == b"still here"


def test_a_socket_as_standard_output_is_written_to_as_it_is() -> None:
    """systemd's journal is one; it cannot be opened anew."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        output = StandardOutput(ours.fileno())
        assert not output.may_block
        assert output.write(b"line\n") == 5
        assert theirs.recv(100) == b"line\n"
        assert not flags(ours.fileno()) & os.O_NONBLOCK
        output.close()


def test_a_closed_standard_output_is_an_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    with pytest.raises(OSError, match="Bad file descriptor"):
        StandardOutput(writer)


def test_a_pipe_that_cannot_be_opened_anew_may_block_and_is_given_a_little_time(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe of another user: another writer may take the room that was polled for, so this belongs into a thread."""
    reader, writer = pipe
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse(errno.EACCES))
        output = StandardOutput(writer)
    assert output.may_block
    left = write_until_behind(output, numbered(100, length=4096))
    emptying = threading.Timer(0.005, os.read, (reader, 1 << 16))
    emptying.start()
    for _ in range(100):  # slow machines: each try waits for 50 ms
        with contextlib.suppress(BlockingIOError):
            assert output.write(left[0]) == 4096
            break
    else:
        pytest.fail("the room was not noticed")
    emptying.join()
    output.close()


def test_a_file_that_only_its_opener_may_open_is_written_where_it_stands(tmp_path: Path) -> None:
    """A shell of another user has opened it for us."""
    path = tmp_path / "log"
    with path.open("wb", buffering=0) as script:
        script.write(b"before\n")
        output = StandardOutput(script.fileno())
        assert output.may_block
        output.write(b"line\n")
        output.close()
        script.write(b"after\n")
    assert path.read_bytes() == b"before\nline\nafter\n"


# --- A line that a terminal or a socket took in part -----------------------------------------------------------------


def test_a_terminal_finishes_the_line_that_it_took_in_part(terminal: tuple[int, int]) -> None:
    reader, writer = terminal
    output = StandardOutput(writer)
    lines = numbered(30, length=LONG)
    left = write_until_behind(output, lines)
    assert read_all(reader)[-1:] != b"\n", "a part of a line was taken"
    assert write_all(output, left, lambda: read_all(reader)).endswith(b"".join(left[1:]))
    output.close()


def test_nothing_that_a_terminal_takes_is_torn_glued_or_twice(terminal: tuple[int, int]) -> None:
    reader, writer = terminal
    output = StandardOutput(writer)
    lines = numbered(50, length=LONG)
    assert write_all(output, lines, lambda: read_all(reader)) == b"".join(lines)
    output.close()


def test_a_line_that_was_begun_is_finished_before_another_one(terminal: tuple[int, int]) -> None:
    """Older lines may come out of the spool first; the begun one comes again later, as a whole."""
    reader, writer = terminal
    output = StandardOutput(writer)
    left = write_until_behind(output, numbered(30, length=LONG))
    content = read_all(reader)
    while True:
        try:
            assert output.write(line(99)) == len(line(99))
            break
        except BlockingIOError:
            content += read_all(reader)
    content += read_all(reader)
    begun = left[0]
    assert content.endswith(begun + line(99))
    output.close()


def test_a_begun_line_that_is_finished_alone_is_no_line_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        output = StandardOutput(ours.fileno())
        counts = iter([10, 50, 60])
        monkeypatch.setattr(output._output, "write", lambda data: ours.send(data[: next(counts)]))
        with pytest.raises(BlockingIOError):
            output.write(line(1))
        with pytest.raises(BlockingIOError):
            output.write(line(2))
        assert output.write(line(2)) == len(line(2))
        assert theirs.recv(1000) == line(1) + line(2)
        output.close()


def test_of_several_lines_the_whole_ones_count(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        output = StandardOutput(ours.fileno())
        counts = iter([150, 130])
        monkeypatch.setattr(output._output, "write", lambda data: ours.send(data[: next(counts)]))
        lines = numbered(5, length=60)
        assert output.write(b"".join(lines)) == 120
        assert output.write(b"".join(lines[2:])) == 120
        assert theirs.recv(1000) == b"".join(lines[:4]) + lines[4][:40]
        output.close()


def test_a_terminal_as_file_finishes_the_line_that_it_took_in_part(terminal: tuple[int, int]) -> None:
    """EVENT_LOG=/dev/stdout in a container with a terminal."""
    reader, writer = terminal
    output = LogFile(os.ttyname(writer))
    lines = numbered(50, length=LONG)
    assert write_all(output, lines, lambda: read_all(reader)) == b"".join(lines)
    output.close()


def test_a_terminal_as_file_takes_whole_lines_only(terminal: tuple[int, int]) -> None:
    output = LogFile(os.ttyname(terminal[1]))
    assert write_until_behind(output, numbered(50, length=LONG))
    output.close()


# --- Files -----------------------------------------------------------------------------------------------------------


def test_a_file_is_created_and_not_for_everybodys_eyes(path: Path) -> None:
    with umask(0o022):
        LogFile(str(path)).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_file_is_written_to_in_a_thread(file: LogFile) -> None:
    assert file.may_block


def test_what_a_file_held_before_stays(path: Path) -> None:
    path.write_bytes(b"before\n")
    output = LogFile(str(path))
    assert output.write(b"line\n") == 5
    output.close()
    assert path.read_bytes() == b"before\nline\n"


def test_two_writers_of_one_file_append_behind_each_other(file: LogFile) -> None:
    other = LogFile(file.name)
    for output, content in [(file, b"1\n"), (other, b"2\n"), (file, b"3\n")]:
        output.write(content)
    other.close()
    assert Path(file.name).read_bytes() == b"1\n2\n3\n"
    assert flags(file.fileno()) & os.O_APPEND


def test_a_file_is_not_handed_down_to_child_processes(file: LogFile) -> None:
    assert not os.get_inheritable(file.fileno())


def test_a_file_that_stays_where_it_is_stays_open(file: LogFile) -> None:
    before = file.fileno()
    file.write(b"line\n")
    assert file.fileno() == before


@pytest.mark.parametrize("rotate", ["rename", "remove"])
def test_a_file_that_was_rotated_away_is_opened_anew(file: LogFile, rotate: str) -> None:
    path = Path(file.name)
    file.write(b"before\n")
    if rotate == "rename":
        path.rename(path.with_suffix(".1"))
    else:
        path.unlink()
    file.write(b"after\n")
    assert path.read_bytes() == b"after\n"


def test_a_file_that_another_took_the_place_of_is_left(file: LogFile) -> None:
    path = Path(file.name)
    path.rename(path.with_suffix(".1"))
    path.write_bytes(b"by logrotate\n")
    file.write(b"after\n")
    assert path.read_bytes() == b"by logrotate\nafter\n"


def test_rotating_leaks_no_descriptor(file: LogFile) -> None:
    before = open_files()
    for _ in range(10):
        Path(file.name).unlink()
        file.write(b"line\n")
    assert open_files() == before


def test_a_directory_that_is_gone_is_an_error_and_the_old_file_stays_open(tmp_path: Path) -> None:
    directory = tmp_path / "log"
    directory.mkdir()
    output = LogFile(str(directory / "events.log"))
    (directory / "events.log").unlink()
    directory.rmdir()
    with pytest.raises(FileNotFoundError):
        output.write(b"1\n")
    directory.mkdir()
    output.write(b"2\n")
    assert (directory / "events.log").read_bytes() == b"2\n"
    output.close()


def test_a_file_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        LogFile(str(tmp_path / "missing" / "events.log"))


def test_a_full_device_takes_nothing() -> None:
    output = LogFile("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        output.write(b"line\n")
    output.close()


@pytest.mark.parametrize("fsync", [True, False])
def test_a_line_is_made_durable_where_asked_for(path: Path, monkeypatch: pytest.MonkeyPatch, *, fsync: bool) -> None:
    synced: list[str] = []

    def remember(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))

    monkeypatch.setattr(os, "fdatasync", remember)
    monkeypatch.setattr(os, "fsync", remember)
    output = LogFile(str(path), fsync=fsync)
    output.write(b"line\n")
    output.close()
    assert synced == ([str(path.parent), str(path)] if fsync else [])


def test_a_directory_that_cannot_be_made_durable_is_an_error_and_leaks_no_descriptor(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = LogFile(str(path), fsync=True)
    before = open_files()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse(errno.EIO))
        with pytest.raises(OSError, match="Input/output"):
            LogFile(str(path), fsync=True)
        path.unlink()
        with pytest.raises(OSError, match="Input/output"):
            output.write(b"1\n")
    assert open_files() == before
    output.write(b"2\n")
    assert path.read_bytes() == b"2\n"
    output.close()


# --- A line that a file took in part ---------------------------------------------------------------------------------


def test_a_line_that_a_file_took_in_part_is_taken_back(file: LogFile, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(file.name)
    file.write(line(1))
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", take_part(30))
        with pytest.raises(OSError, match="no space for more than a part of a line"):
            file.write(line(2))
    assert path.read_bytes() == line(1)
    file.write(line(3))
    assert path.read_bytes() == line(1) + line(3)


def test_of_several_lines_that_a_file_took_in_part_the_whole_ones_stay(
    file: LogFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "write", take_part(150))
    lines = numbered(3, length=60)
    assert file.write(b"".join(lines)) == 120
    assert Path(file.name).read_bytes() == b"".join(lines[:2])


def test_a_disk_that_becomes_full_keeps_whole_lines_only(tmp_path: Path) -> None:
    with small_disk(tmp_path):
        output = LogFile(str(tmp_path / "events.log"))
        lines = numbered(300, length=1000)
        data = b"".join(lines)
        taken = output.write(data)
        assert 0 < taken < len(data)
        assert taken % 1000 == 0
        with pytest.raises(OSError, match=r"No space left|no space for more"):
            output.write(data[taken:])
        assert (tmp_path / "events.log").read_bytes() == data[:taken]
        output.close()


@pytest.mark.parametrize("refused", ["ftruncate", "flock"])
def test_where_a_file_cannot_be_cut_the_next_line_begins_on_a_line_of_its_own(
    file: LogFile, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    path = Path(file.name)
    monkeypatch.setattr(os if refused == "ftruncate" else fcntl, refused, refuse(errno.EPERM))
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", take_part(30))
        with pytest.raises(OSError, match="no space for more than a part of a line"):
            file.write(line(1))
    assert file.write(line(1)) == len(line(1))
    assert file.write(line(2)) == len(line(2))
    assert path.read_bytes() == line(1)[:30] + b"\n" + line(1) + line(2)


def test_a_file_that_may_only_be_appended_to_is_mended_by_a_newline(path: Path) -> None:
    """chattr +a: the kernel refuses ftruncate(2)."""
    path.write_bytes(line(1) + line(2)[:20])
    if subprocess.run(["chattr", "+a", str(path)], check=False, capture_output=True).returncode != 0:
        pytest.skip("only root may make a file append-only, and not on every file system")
    try:
        output = LogFile(str(path))
        output.write(line(2))
        output.close()
        assert path.read_bytes() == line(1) + line(2)[:20] + b"\n" + line(2)
    finally:
        subprocess.run(["chattr", "-a", str(path)], check=True)


def test_what_somebody_else_appended_behind_a_torn_line_is_not_cut_off(
    file: LogFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not ask for the lock, so it may come between our write and our look."""
    path = Path(file.name)
    really_write = os.write

    def write(descriptor: int, data: bytes) -> int:
        taken = really_write(descriptor, data[:30])
        with path.open("ab") as other:
            other.write(b" and another's")
        return taken

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(OSError, match="no space for more than a part of a line"):
            file.write(line(1))
    assert path.read_bytes() == line(1)[:30] + b" and another's"


def test_only_the_newline_before_a_line_may_be_taken(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(b"not ours")
    output = LogFile(str(path))
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", take_part(1))
        with pytest.raises(OSError, match="no space for more than a part of a line"):
            output.write(line(1) + line(2))
    assert output.write(line(1)) == len(line(1))
    output.close()
    assert path.read_bytes() == b"not ours\n" + line(1)


@pytest.mark.parametrize("length", [1, 2, len(LINE_START) - 1, len(LINE_START), 40, MAX_LINE - 1])
def test_a_line_that_a_dead_process_tore_is_cut_off(path: Path, length: int) -> None:
    path.write_bytes(line(1) + line(2, MAX_LINE)[:length])
    output = LogFile(str(path))
    output.write(line(3))
    output.close()
    assert path.read_bytes() == line(1) + line(3)


def test_a_torn_line_that_is_all_there_is_is_cut_off(path: Path) -> None:
    path.write_bytes(line(1)[:20])
    output = LogFile(str(path))
    output.write(line(2))
    output.close()
    assert path.read_bytes() == line(2)


@pytest.mark.parametrize(
    "torn",
    [
        pytest.param(b"text of somebody else", id="text"),
        pytest.param(b'{"other":"program', id="JSON of somebody else"),
        pytest.param(bytes(50), id="zeros"),
        pytest.param(line(2, MAX_LINE + 1)[:-1], id="longer than a line of ours"),
        pytest.param(b"#" * 10_000, id="much longer"),
    ],
)
def test_what_is_not_ours_is_never_cut_off(path: Path, torn: bytes) -> None:
    path.write_bytes(line(1) + torn)
    output = LogFile(str(path))
    output.write(line(3))
    output.close()
    assert path.read_bytes() == line(1) + torn + b"\n" + line(3)


def write_while_locked(output: LogFile, lines: bytes, *, begins: bytes, ends: bytes) -> None:
    """Have lines written while another worker, who has locked the file, is in the middle of a write of his own."""
    with Path(output.name).open("ab", buffering=0) as worker:
        fcntl.flock(worker, fcntl.LOCK_EX)
        worker.write(begins)
        writing = threading.Thread(target=output.write, args=(lines,))
        writing.start()
        writing.join(0.1)
        assert writing.is_alive()
        worker.write(ends)
        fcntl.flock(worker, fcntl.LOCK_UN)
        writing.join()


def test_a_line_that_another_worker_is_writing_is_waited_for(path: Path) -> None:
    """It holds the lock meanwhile; a line that is half there is not torn."""
    path.write_bytes(line(1))
    output = LogFile(str(path))
    write_while_locked(output, line(3), begins=line(2)[:20], ends=line(2)[20:])
    output.close()
    assert path.read_bytes() == line(1) + line(2) + line(3)


def test_what_another_worker_tears_while_it_is_waited_for_is_seen(file: LogFile) -> None:
    path = Path(file.name)
    for number in range(3):
        file.write(line(number))
    write_while_locked(file, line(4), begins=b"", ends=line(3)[:20])
    assert path.read_bytes() == line(0) + line(1) + line(2) + line(4)


class Outrun(LogFile):
    """Another process changes the file between our look at it and our lock."""

    meanwhile: Callable[[], object]

    def _lock(self, how: int = 0) -> bool:
        self.meanwhile()
        return super()._lock(how)


@pytest.mark.parametrize("follow", [True, False])
@pytest.mark.parametrize(
    ("meanwhile", "stays"),
    [
        pytest.param(line(2)[:20], line(1), id="tears a line"),
        pytest.param(line(2) + line(3)[:1], line(1) + line(2), id="tears its second line after a byte"),
        pytest.param(line(2) + b"#", line(1) + line(2) + b"#\n", id="writes something of its own"),
        pytest.param(line(2), line(1) + line(2), id="writes a line"),
    ],
)
@pytest.mark.parametrize("first_is_ours", [True, False])
def test_what_is_written_while_we_come_to_the_lock_is_seen(
    path: Path, meanwhile: bytes, stays: bytes, *, follow: bool, first_is_ours: bool
) -> None:
    append_to(path, line(0))
    output = Outrun(str(path), follow=follow)
    output.meanwhile = lambda: None
    if first_is_ours:
        output.write(line(1))
    else:
        append_to(path, line(1))
    output.meanwhile = lambda: append_to(path, meanwhile)
    output.write(line(4))
    output.close()
    assert path.read_bytes() == line(0) + stays + line(4)


def test_who_has_locked_a_file_that_was_renamed_holds_up_nobody(file: LogFile) -> None:
    path = Path(file.name)
    file.write(line(1))
    with path.open("ab") as worker:
        fcntl.flock(worker, fcntl.LOCK_EX)
        path.rename(path.with_suffix(".1"))
        file.write(line(2))
    assert path.read_bytes() == line(2)


def test_after_a_rotation_the_new_file_is_locked(path: Path) -> None:
    """Another worker has made it, and is writing to it."""
    output = LogFile(str(path))
    for number in range(3):
        output.write(line(number))
    path.rename(path.with_suffix(".1"))
    write_while_locked(output, line(4), begins=line(3)[:20], ends=line(3)[20:])
    output.close()
    assert path.read_bytes() == line(3) + line(4)


def test_of_the_old_files_end_nothing_is_known_about_the_new_one(path: Path) -> None:
    output = LogFile(str(path))
    for number in range(3):
        output.write(line(number))
    path.rename(path.with_suffix(".1"))
    torn = line(5)[:20]
    append_to(path, line(4) * 2 + b"x" * (len(line(4)) - len(torn) - 1) + b"\n" + torn)
    output.write(line(6))
    output.close()
    assert path.read_bytes().endswith(b"x\n" + line(6))


def test_the_end_of_a_file_that_only_we_write_to_is_not_read(file: LogFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each system call is one more time that the thread needs the interpreter's lock from the event loop."""
    file.write(line(1))
    file.write(line(2))
    monkeypatch.setattr(os, "pread", refuse(errno.EIO))
    file.write(line(3))
    assert Path(file.name).read_bytes() == line(1) + line(2) + line(3)


def test_a_second_torn_line_of_the_same_length_is_seen_like_the_first(file: LogFile) -> None:
    path = Path(file.name)
    for number in range(3):
        append_to(path, line(9)[:20])
        assert file.write(line(number)) == len(line(number))
    assert path.read_bytes() == line(0) + line(1) + line(2)


@pytest.mark.parametrize(("size", "stays"), [(0, b""), (20, b""), (len(line(1)), line(1)), (len(line(1)) + 1, line(1))])
def test_what_is_cut_off_while_we_come_to_the_lock_is_seen(path: Path, size: int, stays: bytes) -> None:
    append_to(path, line(1))
    output = Outrun(str(path))
    output.meanwhile = lambda: None
    output.write(line(2))
    output.meanwhile = lambda: os.truncate(path, size)
    output.write(line(3))
    output.close()
    assert path.read_bytes() == stays + line(3)


class Truncated(LogFile):
    """Another process empties the file just before we cut a torn line off."""

    def _cut_off(self, torn: bytes) -> bool:
        os.truncate(self.name, 0)
        return super()._cut_off(torn)


def test_a_torn_line_that_is_gone_when_it_is_to_be_cut_off_is_no_trouble(path: Path) -> None:
    path.write_bytes(line(1)[:20])
    output = Truncated(str(path))
    output.write(line(2))
    output.close()
    assert path.read_bytes() == b"\n" + line(2)


def test_the_lock_is_given_back_also_when_a_write_fails(file: LogFile, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", refuse(errno.EIO))
        with pytest.raises(OSError, match="Input/output"):
            file.write(line(1))
    with Path(file.name).open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_file_that_may_be_written_but_not_read_is_mended_where_we_tore_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests may run as root, who may read everything; hence the one stand-in for the system call."""
    really_open = os.open

    def refuse_reading(path: str, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, "Permission denied")
        return really_open(path, flags, mode)

    path.write_bytes(line(1))
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse_reading)
        output = LogFile(str(path))
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", take_part(30))
        with pytest.raises(OSError, match="no space for more than a part of a line"):
            output.write(line(2))
    output.write(line(2))
    output.write(line(3))
    output.close()
    assert path.read_bytes() == line(1) + line(2)[:30] + b"\n" + line(2) + line(3)


# --- FIFOs -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[tuple[int, LogFile]]:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    output = LogFile(str(path))
    yield reader, output
    output.close()
    os.close(reader)


def test_a_fifo_gets_writes_that_are_atomic(fifo: tuple[int, LogFile]) -> None:
    reader, output = fifo
    assert output.max_write == ATOMIC_WRITE
    assert output.write(b"line\n") == 5
    assert os.read(reader, 100) == b"line\n"


def test_a_fifo_that_nobody_reads_does_not_block(fifo: tuple[int, LogFile]) -> None:
    reader, output = fifo
    lines = numbered(40, length=4000)
    left = write_until_behind(output, lines)
    assert read_all(reader) == b"".join(lines[: len(lines) - len(left)])


def test_a_fifo_is_given_a_little_time(fifo: tuple[int, LogFile]) -> None:
    reader, output = fifo
    left = write_until_behind(output, numbered(40, length=4000))
    emptying = threading.Timer(0.005, os.read, (reader, 1 << 16))
    emptying.start()
    for _ in range(100):  # slow machines: each try waits for 50 ms
        with contextlib.suppress(BlockingIOError):
            assert output.write(left[0]) == 4000
            break
    else:
        pytest.fail("the room was not noticed")
    emptying.join()


def test_a_fifo_without_a_reader_cannot_be_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="No such device or address"):
        LogFile(str(tmp_path / "fifo"))


def test_a_fifo_that_takes_the_place_of_a_file_gets_writes_that_are_atomic(file: LogFile) -> None:
    Path(file.name).unlink()
    os.mkfifo(file.name)
    reader = os.open(file.name, os.O_RDONLY | os.O_NONBLOCK)
    assert file.write(b"line\n") == 5
    assert file.max_write == ATOMIC_WRITE
    assert os.read(reader, 100) == b"line\n"
    os.close(reader)


# --- How much goes out at once ---------------------------------------------------------------------------------------


def test_a_regular_file_takes_large_writes(file: LogFile) -> None:
    assert file.max_write == FILE_WRITE == 1 << 20


def test_a_pipe_gets_writes_that_are_atomic(pipe: tuple[int, int]) -> None:
    output = StandardOutput(pipe[1])
    assert output.max_write == ATOMIC_WRITE == 4096
    output.close()


# --- Which one -------------------------------------------------------------------------------------------------------


def test_a_dash_is_standard_output(pipe: tuple[int, int]) -> None:
    with as_standard_output(pipe[1]):
        output = open_output("-")
        assert isinstance(output, StandardOutput)
        output.write(b"line\n")
        output.close()
    assert os.read(pipe[0], 100) == b"line\n"


def test_anything_else_is_a_file(path: Path) -> None:
    output = open_output(str(path))
    assert isinstance(output, LogFile)
    assert output.name == str(path)
    output.close()


@pytest.mark.parametrize("mode", ["wb", "ab"], ids=[">", ">>"])
def test_a_redirected_standard_output_is_shared_with_the_rest_of_the_script(path: Path, mode: str) -> None:
    """As in `{ echo before; serve; echo after; } > log`."""
    with path.open(mode, buffering=0) as script, as_standard_output(script.fileno()):
        os.write(1, b"before\n")
        output = open_output("-")
        assert isinstance(output, LogFile)
        assert (output.name, output.max_write) == ("standard output", FILE_WRITE)
        output.write(b"line\n")
        os.write(1, b"after\n")
        output.write(b"line\n")
        output.close()
    assert path.read_bytes() == b"before\nline\nafter\nline\n"


def test_a_redirected_standard_output_stays_in_the_file_that_was_opened(path: Path) -> None:
    """Renamed or removed, it is still what the shell has opened."""
    with path.open("wb", buffering=0) as script, as_standard_output(script.fileno()):
        output = open_output("-")
        output.write(line(1))
        path.rename(path.with_suffix(".1"))
        output.write(line(2))
        path.with_suffix(".1").unlink()
        output.write(line(3))
        assert os.pread(output.fileno(), 1000, 0) == line(1) + line(2) + line(3)
        output.close()
    assert not path.exists()


def test_a_redirected_standard_output_that_we_may_not_open_is_written_where_it_stands(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with path.open("wb", buffering=0) as script, as_standard_output(script.fileno()):
        monkeypatch.setattr(os, "open", refuse(errno.EACCES))
        output = open_output("-")
        monkeypatch.undo()
        assert isinstance(output, StandardOutput)
        output.write(b"line\n")
        output.close()
    assert path.read_bytes() == b"line\n"


def test_a_file_that_need_not_be_there_yet_is_opened_by_the_first_write_that_can(tmp_path: Path) -> None:
    path = tmp_path / "later" / "events.log"
    output = LogFile(str(path), must_open=False)
    with pytest.raises(FileNotFoundError):
        output.write(b"line\n")
    path.parent.mkdir()
    assert output.write(b"line\n") == 5
    output.close()
    assert path.read_bytes() == b"line\n"


def test_a_file_that_never_was_there_can_be_closed(tmp_path: Path) -> None:
    LogFile(str(tmp_path / "never" / "events.log"), must_open=False).close()

"""Files and pipes as they are; only what they do rarely is put in their mouth."""

import contextlib
import errno
import fcntl
import os
import pty
import select
import socket
import stat
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.events.outputs import MAX_FILE_WRITE, MAX_LINE, LogFile, Output, StandardOutput, open_output
from service.telemetry.nonblocking import ATOMIC_WRITE
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


def test_standard_output_does_not_block_on_a_full_pipe(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    assert StandardOutput.max_write == ATOMIC_WRITE == MAX_LINE + 1, "a line, and a newline before it"
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
    assert not output.may_block
    output.close()
    os.write(writer, b"still open")


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


def wait_for_room(output: Output, reader: int, line: bytes) -> None:
    """Have the reader empty the pipe while the output waits for it."""
    emptying = threading.Timer(0.005, os.read, (reader, 1 << 16))
    emptying.start()
    for _ in range(100):  # slow machines: each try waits for 50 ms
        with contextlib.suppress(BlockingIOError):
            assert output.write(line) == len(line)
            break
    else:
        pytest.fail("the room was not noticed")
    emptying.join()


def test_a_pipe_that_cannot_be_opened_anew_is_given_a_little_time(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe of another user: another writer may take the room that was polled for, so this belongs into a thread."""
    reader, writer = pipe
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse(errno.EACCES))
        output = StandardOutput(writer)
    assert output.may_block
    left = write_until_behind(output, numbered(100, length=4096))
    wait_for_room(output, reader, left[0])
    output.close()


def test_a_closed_standard_output_is_an_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    with pytest.raises(OSError, match="Bad file descriptor"):
        StandardOutput(writer)


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


@pytest.mark.parametrize(
    ("counts", "wrote", "took"),
    [
        pytest.param([10, 50, 60], [line(1), line(2), line(2)], [None, None, 60], id="the begun line alone is none"),
        pytest.param([150, 130], [b"".join(numbered(5)), b"".join(numbered(5)[2:])], [120, 120], id="the whole ones"),
    ],
)
def test_only_whole_lines_count_as_taken(
    monkeypatch: pytest.MonkeyPatch, counts: list[int], wrote: list[bytes], took: list[int | None]
) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        output = StandardOutput(ours.fileno())
        limits = iter(counts)
        monkeypatch.setattr(socket.socket, "send", lambda _, data, __: os.write(ours.fileno(), data[: next(limits)]))
        for lines, count in zip(wrote, took, strict=True):
            if count is None:
                with pytest.raises(BlockingIOError):
                    output.write(lines)
            else:
                assert output.write(lines) == count
        received = theirs.recv(1000)
        assert received in (line(1) + line(2), b"".join(numbered(5))[:280])
        output.close()


def test_a_terminal_as_file_finishes_the_line_that_it_took_in_part(terminal: tuple[int, int]) -> None:
    """EVENT_LOG=/dev/stdout in a container with a terminal."""
    reader, writer = terminal
    output = LogFile(os.ttyname(writer))
    lines = numbered(50, length=LONG)
    assert write_all(output, lines, lambda: read_all(reader)) == b"".join(lines)
    output.close()


# --- Files -----------------------------------------------------------------------------------------------------------


def test_a_file_is_appended_to_and_not_for_everybodys_eyes(path: Path) -> None:
    with umask(0o022):
        output, other = LogFile(str(path)), open_output(str(path))
    assert (output.name, output.max_write, output.may_block) == (str(path), MAX_FILE_WRITE, True)
    for one, content in [(output, b"1\n"), (other, b"2\n"), (output, b"3\n")]:
        one.write(content)
    assert not os.get_inheritable(output.fileno())
    output.close()
    other.close()
    assert path.read_bytes() == b"1\n2\n3\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize("rotate", ["rename", "remove", "replace"])
def test_a_file_that_was_rotated_away_is_opened_anew(file: LogFile, rotate: str) -> None:
    path = Path(file.name)
    file.write(b"before\n")
    path.unlink() if rotate == "remove" else path.rename(path.with_suffix(".1"))
    if rotate == "replace":
        path.write_bytes(b"by logrotate\n")
    file.write(b"after\n")
    assert path.read_bytes().endswith(b"after\n")
    assert b"before" not in path.read_bytes()


def test_a_file_of_another_user_is_written_to_with_a_warning(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may give a file to another user")
    path.touch()
    os.chown(path, 12345, 12345)
    file = LogFile(str(path))
    try:
        for _ in range(2):
            assert file.write(b"{}\n") == 3
        assert caplog.messages == [f"{path} belongs to another user, who can change what is in it"]
        path.unlink()
        file.write(b"{}\n")
        path.unlink()
        path.touch()
        os.chown(path, 12345, 12345)
        file.write(b"{}\n")
        assert len(caplog.messages) == 2, "said again of another file, not of our own"
    finally:
        file.close()


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


def test_a_torn_line_stays_and_the_next_begins_on_a_line_of_its_own(
    file: LogFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = numbered(3, length=60)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", take_part(150))
        assert file.write(b"".join(lines)) == 120
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", take_part(30))
        with pytest.raises(OSError, match="no space for more than a part of a line"):
            file.write(lines[2])
    assert file.write(lines[2]) == 60
    assert file.write(line(9)) == 60
    torn = lines[2][:30] + b"\n" + lines[2][:29] + b"\n"
    assert Path(file.name).read_bytes() == b"".join(lines[:2]) + torn + lines[2] + line(9)


def test_only_the_newline_before_a_line_may_be_taken(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(b"torn")
    output = LogFile(str(path))
    for taken in (0, 1):
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", take_part(taken))
            with pytest.raises(OSError, match="no space for more than a part of a line"):
                output.write(line(1))
    assert output.write(line(1)) == len(line(1))
    output.close()
    assert path.read_bytes() == b"torn\n" + line(1)


@pytest.mark.parametrize("follow", [True, False])
@pytest.mark.parametrize("first_is_ours", [True, False])
@pytest.mark.parametrize("torn", [b"#", line(2)[:20], b"#" * 10_000])
def test_what_somebody_else_tore_is_seen(path: Path, torn: bytes, *, follow: bool, first_is_ours: bool) -> None:
    path.touch()
    output = LogFile(str(path), follow=follow)
    if first_is_ours:
        output.write(line(1))
    for number in (2, 3):
        with path.open("ab") as other:
            other.write(torn)
        output.write(line(number))
    output.close()
    start = line(1) if first_is_ours else b""
    assert path.read_bytes() == start + torn + b"\n" + line(2) + torn + b"\n" + line(3)


def test_of_the_old_files_end_nothing_is_known_about_the_new_one(file: LogFile) -> None:
    path = Path(file.name)
    file.write(line(1))
    path.rename(path.with_suffix(".1"))
    path.write_bytes(b"#" * len(line(1)))
    file.write(line(2))
    assert path.read_bytes() == b"#" * len(line(1)) + b"\n" + line(2)


@pytest.mark.parametrize("size", [0, 20, len(line(1))])
def test_a_file_that_somebody_emptied_is_written_on(file: LogFile, size: int) -> None:
    """Logrotate's copytruncate; of whatever is left nothing runs into the next line."""
    file.write(line(1))
    os.truncate(file.name, size)
    file.write(line(2))
    written = Path(file.name).read_bytes()
    assert written in (line(1)[:size] + line(2), line(1)[:size] + b"\n" + line(2))
    assert line(2) in written.splitlines(keepends=True)


def test_a_file_that_may_not_be_read_is_mended_where_we_tore_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_the_end_of_a_file_that_only_we_write_to_is_not_read(file: LogFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each system call is one more time that the thread needs the interpreter's lock from the event loop."""
    file.write(line(1))
    file.write(line(2))
    monkeypatch.setattr(os, "pread", refuse(errno.EIO))
    file.write(line(3))
    assert Path(file.name).read_bytes() == line(1) + line(2) + line(3)


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


def test_a_fifo_that_nobody_reads_is_given_a_little_time(fifo: tuple[int, LogFile]) -> None:
    reader, output = fifo
    lines = numbered(40, length=4000)
    left = write_until_behind(output, lines)
    assert read_all(reader) == b"".join(lines[: len(lines) - len(left)])
    left = write_until_behind(output, lines)
    wait_for_room(output, reader, left[0])


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


# --- Which one -------------------------------------------------------------------------------------------------------


def test_a_dash_is_standard_output(pipe: tuple[int, int]) -> None:
    with as_standard_output(pipe[1]):
        output = open_output("-")
    assert isinstance(output, StandardOutput)
    output.write(b"line\n")
    output.close()
    assert os.read(pipe[0], 100) == b"line\n"


@pytest.mark.parametrize("mode", ["wb", "ab"], ids=[">", ">>"])
def test_a_redirected_standard_output_is_shared_with_the_rest_of_the_script(path: Path, mode: str) -> None:
    """As in `{ echo before; serve; echo after; } > log`."""
    with path.open(mode, buffering=0) as script, as_standard_output(script.fileno()):
        os.write(1, b"before\n")
        output = open_output("-")
        assert isinstance(output, LogFile)
        assert (output.name, output.max_write) == ("standard output", MAX_FILE_WRITE)
        output.write(b"line\n")
        os.write(1, b"after\n")
        output.write(b"line\n")
        output.close()
    assert path.read_bytes() == b"before\nline\nafter\nline\n"


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

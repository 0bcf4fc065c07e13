"""Files and pipes as they are: nothing here is a fake."""

import contextlib
import errno
import fcntl
import os
import pty
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.events.outputs import FILE_WRITE, LogFile, StandardOutput, open_output
from service.nonblocking import ATOMIC_WRITE


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """The reader's and the writer's descriptor."""
    reader, writer = os.pipe()
    yield reader, writer
    for descriptor in (reader, writer):
        os.close(descriptor)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[LogFile]:
    output = LogFile(str(tmp_path / "events.log"))
    yield output
    output.close()


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def flags(descriptor: int) -> int:
    return fcntl.fcntl(descriptor, fcntl.F_GETFL)


# --- Standard output -------------------------------------------------------------------------------------------------


def test_standard_output_writes_to_the_pipe_behind_the_descriptor(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    output = StandardOutput(writer)
    assert output.write(b"line\n") == 5
    assert os.read(reader, 100) == b"line\n"
    output.close()


def test_standard_output_does_not_block_on_a_full_pipe(pipe: tuple[int, int]) -> None:
    _, writer = pipe
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    output = StandardOutput(writer)
    assert output.write(b"#" * 4096) == 4096
    with pytest.raises(BlockingIOError):
        output.write(b"line\n")
    output.close()


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
        assert output.write(b"line\n") == 5
        assert theirs.recv(100) == b"line\n"
        assert not flags(ours.fileno()) & os.O_NONBLOCK
        output.close()


def test_a_redirected_standard_output_shares_its_offset_with_the_rest_of_the_script(tmp_path: Path) -> None:
    """As in `{ serve; echo done; } > log`."""
    path = tmp_path / "log"
    with path.open("wb", buffering=0) as script:
        script.write(b"before\n")
        output = StandardOutput(script.fileno())
        assert output.max_write == FILE_WRITE
        output.write(b"line\n")
        output.close()
        script.write(b"after\n")
    assert path.read_bytes() == b"before\nline\nafter\n"


def test_a_closed_standard_output_is_an_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    with pytest.raises(OSError, match="Bad file descriptor"):
        StandardOutput(writer)


def test_standard_output_needs_no_mending_before_anything_was_torn(pipe: tuple[int, int]) -> None:
    output = StandardOutput(pipe[1])
    assert output.prepare() == b""
    output.close()


def test_a_stream_that_took_half_a_line_is_mended() -> None:
    """A datagram would be refused, a stream takes what fits; a terminal does the same."""
    terminal, side = pty.openpty()
    output = StandardOutput(side)
    taken = []
    with contextlib.suppress(BlockingIOError):  # nobody reads the terminal
        while True:
            taken.append(output.write(b"#" * 4000 + b"\n"))
    assert output.prepare() == (b"\n" if taken[-1] < 4001 else b"")
    assert taken[-1] < 4001
    output.close()
    os.close(side)
    os.close(terminal)


# --- Files -----------------------------------------------------------------------------------------------------------


def test_a_file_is_created_and_not_for_everybodys_eyes(tmp_path: Path) -> None:
    path = tmp_path / "events.log"
    with umask(0o022):
        LogFile(str(path)).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_what_a_file_held_before_stays(tmp_path: Path) -> None:
    path = tmp_path / "events.log"
    path.write_bytes(b"before\n")
    output = LogFile(str(path))
    assert output.write(b"line\n") == 5
    output.close()
    assert path.read_bytes() == b"before\nline\n"


def test_two_writers_of_one_file_append_behind_each_other(file: LogFile) -> None:
    other = LogFile(file.name)
    for output, line in [(file, b"1\n"), (other, b"2\n"), (file, b"3\n")]:
        output.write(line)
    other.close()
    assert Path(file.name).read_bytes() == b"1\n2\n3\n"
    assert flags(file.fileno()) & os.O_APPEND


def test_a_file_is_not_handed_down_to_child_processes(file: LogFile) -> None:
    assert not os.get_inheritable(file.fileno())


def test_a_file_that_stays_where_it_is_stays_open(file: LogFile) -> None:
    before = file.fileno()
    assert file.prepare() == b""
    assert file.fileno() == before


@pytest.mark.parametrize("rotate", ["rename", "remove"])
def test_a_file_that_was_rotated_away_is_opened_anew(file: LogFile, rotate: str) -> None:
    path = Path(file.name)
    file.write(b"before\n")
    if rotate == "rename":
        path.rename(path.with_suffix(".1"))
    else:
        path.unlink()
    file.prepare()
    file.write(b"after\n")
    assert path.read_bytes() == b"after\n"


def test_a_file_that_another_took_the_place_of_is_left(file: LogFile) -> None:
    path = Path(file.name)
    path.rename(path.with_suffix(".1"))
    path.write_bytes(b"by logrotate\n")
    file.prepare()
    file.write(b"after\n")
    assert path.read_bytes() == b"by logrotate\nafter\n"


def test_rotating_leaks_no_descriptor(file: LogFile) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - the list includes the descriptor it is read through
    for _ in range(10):
        Path(file.name).unlink()
        file.prepare()
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_a_directory_that_is_gone_is_an_error_and_the_old_file_stays_open(tmp_path: Path) -> None:
    directory = tmp_path / "log"
    directory.mkdir()
    output = LogFile(str(directory / "events.log"))
    (directory / "events.log").unlink()
    directory.rmdir()
    with pytest.raises(FileNotFoundError):
        output.prepare()
    directory.mkdir()
    output.prepare()
    assert (directory / "events.log").exists()
    output.close()


@pytest.mark.parametrize(("content", "mending"), [(b"", b""), (b"line\n", b""), (b"line\nto", b"\n")])
def test_a_file_is_mended_where_it_ends_torn(tmp_path: Path, content: bytes, mending: bytes) -> None:
    path = tmp_path / "events.log"
    path.write_bytes(content)
    output = LogFile(str(path))
    assert output.prepare() == mending
    output.close()


def test_the_end_of_a_file_is_looked_at_only_where_it_may_be_torn(tmp_path: Path) -> None:
    """While another worker is in the middle of a write, the file seems to end torn; that must not be mended."""
    path = tmp_path / "events.log"
    output = LogFile(str(path))
    output.write(b"ours\n")
    path.write_bytes(b"ours\nanother worker's, und")
    assert output.prepare() == b""
    output.close()


def test_a_failed_write_makes_it_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "events.log"
    output = LogFile(str(path))
    output.write(b"ours\n")
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", refuse)
        with pytest.raises(OSError, match="No space"):
            output.write(b"more\n")
    path.write_bytes(b"ours\nto")
    assert output.prepare() == b"\n"
    output.close()


def test_a_file_that_may_be_written_but_not_read_is_taken_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests may run as root, who may read everything; hence the one stand-in for the system call."""
    really_open = os.open

    def refuse_reading(path: str, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, "Permission denied")
        return really_open(path, flags, mode)

    path = tmp_path / "events.log"
    path.write_bytes(b"torn")
    monkeypatch.setattr(os, "open", refuse_reading)
    output = LogFile(str(path))
    assert output.prepare() == b""
    output.write(b"line\n")
    output.close()
    monkeypatch.undo()
    assert path.read_bytes() == b"tornline\n"


def test_a_file_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        LogFile(str(tmp_path / "missing" / "events.log"))


# --- How much goes out at once ---------------------------------------------------------------------------------------


def test_a_regular_file_takes_large_writes(file: LogFile) -> None:
    assert file.max_write == FILE_WRITE == 1 << 20


def test_a_pipe_gets_writes_that_are_atomic(pipe: tuple[int, int]) -> None:
    output = StandardOutput(pipe[1])
    assert output.max_write == ATOMIC_WRITE == 4096
    output.close()


def test_a_fifo_as_file_gets_writes_that_are_atomic(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    output = LogFile(str(path))
    assert output.max_write == ATOMIC_WRITE
    output.close()
    os.close(reader)


def test_a_fifo_that_takes_the_place_of_a_file_gets_writes_that_are_atomic(file: LogFile) -> None:
    Path(file.name).unlink()
    os.mkfifo(file.name)
    reader = os.open(file.name, os.O_RDONLY | os.O_NONBLOCK)
    file.prepare()
    assert file.max_write == ATOMIC_WRITE
    os.close(reader)


# --- Which one -------------------------------------------------------------------------------------------------------


def test_a_dash_is_standard_output() -> None:
    output = open_output("-")
    assert isinstance(output, StandardOutput)
    output.close()


def test_anything_else_is_a_file(tmp_path: Path) -> None:
    path = str(tmp_path / "events.log")
    output = open_output(path)
    assert isinstance(output, LogFile)
    assert output.name == path
    output.close()

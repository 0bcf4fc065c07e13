"""Files and pipes as they are; only what they do rarely is put in their mouth."""

import errno
import fcntl
import os
import pty
import select
import socket
import stat
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from service.events.outputs import MAX_FILE_WRITE, MAX_LINE, LogFile, Output, Stream, open_output
from service.settings import Settings
from service.telemetry.diagnostics import ATOMIC_WRITE
from tests.support.disks import refuse
from tests.support.processes import TIMEOUT
from tests.support.spools import line, numbered, open_files


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.log"


@pytest.fixture
def file(path: Path) -> Iterator[LogFile]:
    output = LogFile(str(path), str(path))
    yield output
    output.close()


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


def write_until_behind(output: Output, timeout: float = 0.0) -> bytes:
    """Write lines of 4,000 bytes until the reader is behind; give the first one that was not taken."""
    for one in numbered(1000, length=4000):
        try:
            output.write(one, timeout)
        except BlockingIOError:
            return one
    pytest.fail("the reader is never behind")


# --- Pipes, terminals, sockets ---------------------------------------------------------------------------------------


def test_a_full_pipe_blocks_nobody_and_stays_as_it_was() -> None:
    reader, writer = os.pipe()
    assert Stream.max_write == ATOMIC_WRITE == MAX_LINE + 1, "a line, and a newline before it"
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    with as_standard_output(writer):
        output = open_output("-")
    assert not output.may_block
    assert output.write(b"#" * 4095 + b"\n") == 4096
    with pytest.raises(BlockingIOError):
        output.write(b"line\n")
    assert os.read(reader, 10_000) == b"#" * 4095 + b"\n"
    assert not fcntl.fcntl(writer, fcntl.F_GETFL) & os.O_NONBLOCK, "every process that shares it would see it"
    output.close()
    os.close(writer)
    os.close(reader)


def test_a_terminal_finishes_a_begun_line_before_another_one() -> None:
    """Older lines may come out of the spool first; the begun one comes again later, as a whole."""
    reader, writer = pty.openpty()
    tty.setraw(writer, termios.TCSANOW)
    output = open_output(os.ttyname(writer))
    content = b""
    begun = write_until_behind(output)
    while True:
        try:
            assert output.write(line(99)) == len(line(99))
            break
        except BlockingIOError:
            content += os.read(reader, 1 << 16)
    while not content.endswith(begun + line(99)):
        assert select.select([reader], [], [], TIMEOUT)[0]
        content += os.read(reader, 1 << 16)
    output.close()
    os.close(reader)
    os.close(writer)


def test_only_whole_lines_count_as_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        output = Stream(ours.fileno(), "a socket")
        limits = iter([10, 50, 150, 130])
        monkeypatch.setattr(socket.socket, "send", lambda _, data, __: os.write(ours.fileno(), data[: next(limits)]))
        for other in (line(8), line(9)):  # at first the begun line is not finished, then it is, and nothing else
            with pytest.raises(BlockingIOError):
                output.write(other)
        lines = numbered(5)
        assert output.write(b"".join(lines)) == 120
        assert output.write(b"".join(lines[2:])) == 120
        assert theirs.recv(1000) == line(8) + b"".join(lines)[:280]
        output.close()


def test_a_fifo_is_written_to_without_waiting(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    with pytest.raises(OSError, match="No such device or address"):
        open_output(str(path))
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    before = open_files()
    output = open_output(str(path))
    assert (output.name, output.max_write, output.may_block) == (str(path), ATOMIC_WRITE, False)
    write_until_behind(output)
    output.close()
    assert open_files() == before
    os.close(reader)


def test_a_socket_that_nobody_reads_blocks_nobody() -> None:
    """As journald's, which systemd makes our standard output."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with as_standard_output(ours.fileno()):
            output = open_output("-")
        assert not output.may_block
        write_until_behind(output)
        assert os.get_blocking(ours.fileno())
        output.close()
        assert theirs.recv(10) == line(0)[:10]


def test_a_pipe_that_cannot_be_opened_anew_is_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where there is no /proc, or the pipe is another user's and we are not root."""
    reader, writer = os.pipe()
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse(errno.EACCES))
        output = Stream(writer, "a pipe")
    assert output.may_block, "another writer may take the room between the poll and the write"
    write_until_behind(output, timeout=0.001)
    os.read(reader, 65_536)
    assert output.write(line(1), timeout=1) == len(line(1))
    output.close()
    os.close(reader)
    os.close(writer)


# --- Standard output -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["wb", "ab"], ids=[">", ">>"])
def test_a_redirected_stdout_is_shared_with_the_whole_script(path: Path, mode: str) -> None:
    """As in `{ echo before; serve; echo after; } > log`."""
    with path.open(mode, buffering=0) as script, as_standard_output(script.fileno()):
        os.write(1, b"before\n")
        output = open_output("-", fsync=True)
        assert (output.name, output.max_write) == ("standard output", MAX_FILE_WRITE)
        output.write(b"line\n")
        path.rename(path.with_suffix(".1"))
        os.write(1, b"after\n")
        output.write(b"line\n")
        output.close()
    assert path.with_suffix(".1").read_bytes() == b"before\nline\nafter\nline\n"


@pytest.mark.parametrize("refused", [os.O_RDONLY, os.O_RDWR], ids=["at all", "for reading"])
def test_a_redirected_stdout_that_we_may_not_open_is_written_to(
    path: Path, monkeypatch: pytest.MonkeyPatch, refused: int
) -> None:
    """A shell of another user has opened it for us, or it may only be written to."""
    really_open = os.open

    def open_if_allowed(name: str, flags: int, mode: int = 0o777) -> int:
        if flags & refused == refused:
            raise PermissionError(errno.EACCES, "Permission denied")
        return really_open(name, flags, mode)

    with path.open("wb", buffering=0) as script, as_standard_output(script.fileno()):
        script.write(b"before\n")
        monkeypatch.setattr(os, "open", open_if_allowed)
        output = open_output("-")
        monkeypatch.undo()
        assert output.may_block
        output.write(b"line\n")
        output.close()
        script.write(b"after\n")
    assert path.read_bytes() == b"before\nline\nafter\n"


# --- Files -----------------------------------------------------------------------------------------------------------


def test_a_file_is_appended_to_and_not_for_everybodys_eyes(path: Path) -> None:
    files, before = open_files(), os.umask(0o022)
    output, other = open_output(str(path)), open_output(str(path))
    os.umask(before)
    assert (output.name, output.max_write, output.may_block) == (str(path), MAX_FILE_WRITE, True)
    for one, content in [(output, b"1\n"), (other, b"2\n"), (output, b"3\n")]:
        one.write(content)
    output.close()
    other.close()
    assert open_files() == files
    assert path.read_bytes() == b"1\n2\n3\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize("rotate", ["rename", "remove", "replace"])
def test_a_file_that_was_rotated_away_is_opened_anew(file: LogFile, path: Path, rotate: str) -> None:
    file.write(b"before\n")
    before = open_files()
    path.unlink() if rotate == "remove" else path.rename(path.with_suffix(".1"))
    if rotate == "replace":
        path.write_bytes(b"torn")
    file.write(b"after\n")
    assert path.read_bytes() == (b"torn\nafter\n" if rotate == "replace" else b"after\n")
    assert open_files() == before


def test_what_takes_a_files_place_and_is_none_takes_no_lines(file: LogFile, path: Path) -> None:
    """Opened for reading too, a FIFO would be its own reader."""
    path.unlink()
    os.mkfifo(path)
    before = open_files()
    with pytest.raises(OSError, match="it is no file any more"):
        file.write(b"line\n")
    path.unlink()
    file.write(b"line\n")
    assert (path.read_bytes(), open_files()) == (b"line\n", before)


def test_a_file_of_another_user_is_written_to_with_a_warning(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may give a file to another user")
    path.touch()
    os.chown(path, 12345, 12345)
    file = open_output(str(path))
    for _ in range(2):
        assert file.write(b"{}\n") == 3
    assert caplog.messages == [f"{path} belongs to another user, who can change what is in it"]
    file.close()


@pytest.mark.parametrize("fsync", [True, False])
def test_a_line_is_made_durable_where_asked_for(path: Path, synced: list[Path], *, fsync: bool) -> None:
    output = open_output(str(path), fsync=fsync)
    output.write(b"line\n")
    output.close()
    assert synced == ([path.parent, path] if fsync else [])


# --- A line that a file took in part ---------------------------------------------------------------------------------


def test_a_torn_line_stays_and_the_next_begins_on_its_own(
    file: LogFile, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = numbered(3, length=60)
    really_write, limits = os.write, iter([150, 60, 1, 0])
    monkeypatch.setattr(os, "write", lambda to, data: really_write(to, data[: next(limits, len(data))]))
    assert file.write(b"".join(lines)) == 120
    for _ in range(3):
        with pytest.raises(OSError, match="no space for more than a part of a line"):
            file.write(lines[2])
    assert file.write(lines[2]) == 60
    assert file.write(line(9)) == 60
    torn = lines[2][:30] + b"\n" + lines[2][:59] + b"\n"
    assert path.read_bytes() == b"".join(lines[:2]) + torn + lines[2] + line(9)


@pytest.mark.parametrize("size", [0, 20])
def test_a_file_that_somebody_emptied_is_written_on(file: LogFile, path: Path, size: int) -> None:
    """Logrotate's copytruncate; of whatever is left nothing runs into the next line."""
    file.write(line(1))
    os.truncate(path, size)
    file.write(line(2))
    assert path.read_bytes() == (line(1)[:size] + b"\n" if size else b"") + line(2)


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/dev//stdout", "/proc/self/fd/1"])
def test_standard_output_by_its_path_is_a_dash(name: str) -> None:
    assert Settings(clerk_secret_key=SecretStr("sk_test_x"), event_log=name).event_log == "-"


@pytest.mark.parametrize("name", ["/dev/stderr", "/dev/fd/2", "/proc/self/fd/7"])
def test_another_descriptor_is_refused_in_one_clear_line(name: str) -> None:
    with pytest.raises(ValidationError, match="must be - for standard output, or the path of a file"):
        Settings(clerk_secret_key=SecretStr("sk_test_x"), event_log=name)

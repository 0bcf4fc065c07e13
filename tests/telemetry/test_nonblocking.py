"""Every kind of descriptor that a supervisor may give us as standard output or standard error."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.telemetry.nonblocking import InheritedDescriptor

LINE = b"#" * 4000 + b"\n"


def fill(output: InheritedDescriptor) -> int:
    """Write until the reader is behind; give how much was taken."""
    taken = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            taken += output.write(LINE)
    return taken


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def test_a_pipe_that_nobody_reads_does_not_block(pipe: tuple[int, int]) -> None:
    output = InheritedDescriptor(pipe[1])
    assert not output.may_block
    assert fill(output) > 0
    output.close()
    assert os.get_blocking(pipe[1])


def test_a_socket_that_nobody_reads_does_not_block() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        output = InheritedDescriptor(ours.fileno())
        assert not output.may_block
        taken = fill(output)
        assert taken % len(LINE) == 0, "a stream socket takes a line whole or not at all"
        assert os.get_blocking(ours.fileno())
        assert output.fileno() != ours.fileno()
        output.close()
        assert len(theirs.recv(10)) == 10


def test_a_pipe_that_cannot_be_opened_anew_does_not_block_either(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where there is no /proc, or the pipe is another user's and we are not root."""

    def refuse(*_: object) -> int:
        raise PermissionError

    monkeypatch.setattr(os, "open", refuse)
    output = InheritedDescriptor(pipe[1])
    assert output.may_block, "another writer may take the room between the poll and the write"
    assert fill(output) > 0
    os.read(pipe[0], 65_536)
    assert output.write(LINE) == len(LINE)
    output.close()


def test_a_file_is_written_where_the_inherited_one_stands(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with path.open("wb", buffering=0) as file:
        file.write(b"before\n")
        output = InheritedDescriptor(file.fileno())
        output.write(b"line\n")
        assert output.may_block
        file.write(b"after\n")
        output.close()
    assert path.read_bytes() == b"before\nline\nafter\n"

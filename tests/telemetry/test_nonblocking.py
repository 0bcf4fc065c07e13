"""What a supervisor may give us as standard output, beside the pipes and files of tests/events/test_outputs.py."""

import contextlib
import os
import socket

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


def test_a_pipe_that_cannot_be_opened_anew_does_not_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where there is no /proc, or the pipe is another user's and we are not root."""

    def refuse(*_: object) -> int:
        raise PermissionError

    reader, writer = os.pipe()
    monkeypatch.setattr(os, "open", refuse)
    output = InheritedDescriptor(writer)
    assert output.may_block, "another writer may take the room between the poll and the write"
    assert fill(output) > 0
    os.read(reader, 65_536)
    assert output.write(LINE) == len(LINE)
    output.close()
    os.close(reader)
    os.close(writer)

"""Writing to standard output without ever waiting for whoever reads it."""

import os
import select
import socket
import stat

ATOMIC_WRITE = 4096
"""Bytes that a pipe takes whole or not at all, also from several writers: Linux's ``PIPE_BUF`` (pipe(7))."""


class InheritedDescriptor:
    """A descriptor that somebody else opened, such as standard output, for writing.

    ``O_NONBLOCK`` on it would be seen by every process that shares it. So it is opened anew where the system allows it
    (pipes, terminals); a socket is sent to with ``MSG_DONTWAIT``; what is left (a pipe of another user, no /proc) is
    polled before each write, which is good for one writer. A file is not: opened anew it would have another position.
    """

    def __init__(self, descriptor: int) -> None:
        self.may_block = False
        """Whether a write may wait after all."""
        self._socket: socket.socket | None = None
        self._poll: select.poll | None = None
        kind = os.fstat(descriptor).st_mode
        if stat.S_ISSOCK(kind):
            self._socket = socket.socket(fileno=os.dup(descriptor))
            self._fd = self._socket.fileno()
            return
        if stat.S_ISREG(kind):
            self._fd, self.may_block = os.dup(descriptor), True
            return
        try:
            self._fd = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError:
            self._fd = os.dup(descriptor)
            self._poll = select.poll()
            self._poll.register(self._fd, select.POLLOUT)
            self.may_block = True

    def fileno(self) -> int:
        """Give the file descriptor."""
        return self._fd

    def write(self, data: bytes) -> int:
        """Write once; give how many bytes were taken. ``BlockingIOError`` where the reader is behind."""
        if self._socket is not None:
            return self._socket.send(data, socket.MSG_DONTWAIT)
        if self._poll is not None and not self._poll.poll(0):
            raise BlockingIOError
        return os.write(self._fd, data)

    def close(self) -> None:
        """Close our own description; the inherited descriptor stays open."""
        if self._socket is not None:
            self._socket.close()
        else:
            os.close(self._fd)

"""What a line is, to those who store and carry lines."""

from service.telemetry.nonblocking import ATOMIC_WRITE

MAX_LINE = ATOMIC_WRITE - 1
"""Bytes of a line with its newline: what a pipe takes whole, less a newline that may have to mend what is before it."""
LINE_START = b'{"event":"'
"""How each line begins; what does not is not ours."""


def first_lines(data: bytes, limit: int) -> bytes:
    """Give the whole lines among the first ``limit`` bytes."""
    return data[: data.rfind(b"\n", 0, limit) + 1]

"""One request and its response, as uvicorn has them, with a cheaper way to send a response."""

from uvicorn._types import ASGISendEvent, HTTPResponseStartEvent
from uvicorn.protocols.http.httptools_impl import HEADER_RE, HEADER_VALUE_RE, STATUS_LINE, RequestResponseCycle

from service.polite_transport import PoliteTransport

REMEMBERED = 256
"""Header lines that a process remembers."""
SHORT = 64
"""Bytes of the longest value that is remembered."""

_CLOSE = b"connection: close\r\n"
_CHUNKED = b"transfer-encoding: chunked\r\n"
_LAST = b"\r\n"


class HeaderLines(dict[tuple[bytes, bytes], bytes]):
    """Header fields as they are sent. The same few come with each response; they are checked once.

    A field that uvicorn would refuse, change or act on is none of them. What strangers make us send takes at most
    100 KB, and does not stay: when it is full, all is forgotten.
    """

    def __missing__(self, field: tuple[bytes, bytes]) -> bytes:
        name, value = field
        if (
            name in {b"connection", b"transfer-encoding"}
            or name != name.lower()
            or HEADER_RE.search(name)
            or HEADER_VALUE_RE.search(value)
        ):
            raise KeyError(field)
        line = b"%b: %b\r\n" % field
        if len(value) <= SHORT and name != b"x-request-id":  # which does not come again
            if len(self) >= REMEMBERED:
                self.clear()
            self[field] = line
        return line


_line_of = HeaderLines().__getitem__


class Cycle(RequestResponseCycle):
    """uvicorn's cycle, with a way of its own for a response whose body comes in one piece, as nearly all do.

    uvicorn checks each header of each response anew, and writes the head before the body, each with a system call and
    a packet of its own. Here the head waits for what follows it, as ASGI allows ("need not flush", HTTP specification,
    Response Start). The state is left as uvicorn leaves it, and what is not plain is uvicorn's to send.
    """

    transport: PoliteTransport
    _length: int | None = None  # bytes of the body, while nothing has followed the head

    async def send(self, message: ASGISendEvent) -> None:
        """Send a message of the app.

        Raises:
            RuntimeError: uvicorn's, for one that is wrong.
        """
        length, self._length = self._length, None
        if message["type"] == "http.response.start":
            if self._hold_head(message):
                return
        elif (
            length is not None
            and message["type"] == "http.response.body"
            and len(body := message.get("body", b"")) == length
            and not message.get("more_body", False)
            and not self.flow.write_paused
            and not self.disconnected
        ):
            self.transport.write(body)
            self.expected_content_length = 0
            self.response_complete = True
            self.message_event.set()
            if not self.keep_alive:
                self.transport.close()
            self.on_response()
            return
        await super().send(message)

    def _hold_head(self, message: HTTPResponseStartEvent) -> bool:
        """Have a plain head written with what follows it; tell whether it is one."""
        if self.response_started or self.access_log or self.scope["method"] == "HEAD":
            return False
        length = None
        try:
            fields = self.default_headers + message["headers"]  # type: ignore[operator]  # no list, no plain head
            for name, value in fields:
                if name == b"content-length":
                    length = int(value)
                    break
            status = message["status"]
            lines = [STATUS_LINE[status], *map(_line_of, fields)]
        except (KeyError, TypeError, ValueError):
            return False
        if not self.keep_alive:
            lines.append(_CLOSE)
        if length is None:
            if status in {204, 304}:
                return False
            lines.append(_CHUNKED)
        lines.append(_LAST)
        self.response_started = True
        self.waiting_for_100_continue = False
        self.chunked_encoding = length is None
        self.expected_content_length = length or 0
        self._length = length
        self.transport.hold(b"".join(lines))
        return True

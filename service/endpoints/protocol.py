"""HTTP/1.1 as uvicorn speaks it, with the bounds that it lacks. ``deploy/nginx`` bounds the rest."""

import asyncio
import math
import re
import resource
from http import HTTPStatus

from starlette.responses import JSONResponse
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD = 65_536  # bytes of a request line with its headers, of the trailers, or between two pieces of a body
MAX_FIELDS = 256  # of a head
CLIENT_TIMEOUT = 15.0  # seconds to begin a first request, to send a head, of silence in a body, and to take an answer
LAST_CALL = 0.1  # seconds that an idle connection stays open at a shutdown: a request may be on its way
RESERVED_FILES = 64  # open files that no connection may take: the event log and the spool need some

_is_host = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]*").fullmatch  # RFC 3986, section 3.2.2, and a port
# HTTP version, and how many Host and Transfer-Encoding: what all servers read alike (RFC 9112, 2.3, 3.2 and 6.1).
_FRAMINGS = {("1.1", 1, 0), ("1.1", 1, 1), ("1.0", 0, 0), ("1.0", 1, 0)}


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol. It calls ``send_400_response`` where a callback of the parser, ``on_...``, raises."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a first request, unless there are too many connections."""
        super().connection_made(transport)
        self._in_body, self._unparsed, self._deadline = False, 0, self.loop.time() + CLIENT_TIMEOUT
        self._abort_when_late()
        if len(self.connections) > resource.getrlimit(resource.RLIMIT_NOFILE)[0] - RESERVED_FILES:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Forget the connection."""
        self._timer.cancel()
        super().connection_lost(None)  # told of an error, uvicorn keeps its timer and all that hangs on it

    def data_received(self, data: bytes) -> None:
        """Parse what was read: a head, or more of one, which wins no time by that, or more of a body, which does."""
        if not self._unparsed:
            self._deadline = self.loop.time() + CLIENT_TIMEOUT
        self._unparsed += len(data)
        super().data_received(data)
        if self._unparsed > MAX_HEAD and not self.transport.is_closing():
            self.send_400_response("")
        if self._in_body:
            self._deadline = self.loop.time() + CLIENT_TIMEOUT

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio reads it, uvicorn gives None
        """Answer a client that sends no more, and close."""
        super().shutdown()
        return True

    def on_headers_complete(self) -> None:
        """Begin with a request that is within bounds and read alike by all servers, if no answer is due before."""
        hosts = codings = 0
        for name, value in self.headers:
            if name == b"host":
                hosts += 1 if _is_host(value) else 2
            elif name == b"transfer-encoding":
                codings += 1 if value.lower() == b"chunked" else 2
        is_framed = (self.parser.get_http_version(), hosts, codings) in _FRAMINGS
        large = self._unparsed > MAX_HEAD and len(self.url) + sum(len(a) + len(b) for a, b in self.headers) > MAX_HEAD
        is_first = self.cycle is None or self.cycle.response_complete
        if not (is_framed and is_first) or large or len(self.headers) > MAX_FIELDS:
            raise ValueError
        super().on_headers_complete()
        self._in_body, self._unparsed, self.headers = True, 0, []  # so that trailers are no headers
        if self.parser.should_upgrade() or self.expect_100_continue:
            self.cycle.keep_alive = False  # whether a body follows is not known

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._unparsed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Wait for the answer, which has no deadline here, or for the next request."""
        self._in_body = False
        self._deadline = self.loop.time() + self.timeout_keep_alive if self.cycle.response_complete else math.inf
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's signature
        """Hear nothing more. Answer with an error, unless an answer has begun or is due to an earlier request."""
        if self.cycle is not None and not (self._in_body or self.cycle.response_complete):
            self.flow.pause_reading()
            super().shutdown()
            return
        if not (self._in_body and self.cycle.response_started):
            status = HTTPStatus(431 if self._unparsed > MAX_HEAD or len(self.headers or ()) > MAX_FIELDS else 400)
            answer = JSONResponse({"success": False, "message": status.phrase}, status, {"Connection": "close"})
            line = b"HTTP/1.1 %d %s\r\n" % (status, status.phrase.encode())
            fields = [b"%s: %s\r\n" % field for field in self.server_state.default_headers + answer.raw_headers]
            self.transport.write(b"".join([line, *fields, b"\r\n", answer.body]))
        if self._in_body:
            self.cycle.disconnected = True  # there is no second answer
        self.transport.close()

    def shutdown(self) -> None:
        """Close after the answer under way, but not at once: a request may be on its way."""
        self.loop.call_later(LAST_CALL, super().shutdown)

    def _abort_when_late(self) -> None:  # one timer for a connection costs less than one for each request
        now = self.loop.time()
        if self.transport.is_closing() or self.flow.write_paused:  # the client does not take its answers
            self._deadline = min(self._deadline, now + CLIENT_TIMEOUT)
        if now >= self._deadline:
            self.transport.abort()
        else:
            self._timer = self.loop.call_later(min(self._deadline - now, CLIENT_TIMEOUT), self._abort_when_late)

"""HTTP/1.1 as uvicorn speaks it, with the bounds that it lacks. ``deploy/nginx`` bounds the rest."""

import asyncio
import math
import re
import resource
from http import HTTPStatus

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD = 65_536
"""Bytes of a request line with its headers, of the trailers, or of what stands between two pieces of a body."""
MAX_FIELDS = 256
"""Header fields of a request."""
CLIENT_TIMEOUT = 15.0
"""Seconds for a first request to begin, for a head to be complete, for silence within a body, and to take an answer."""
LAST_CALL = 0.1
"""Seconds that an idle connection stays open at a shutdown: a request may be on its way."""
RESERVED_FILES = 64
"""Open files that no connection may take: the event log and the spool need some."""

# RFC 3986, section 3.2.2, and a port; an empty one is allowed (RFC 9112, section 3.2).
_is_host = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]*").fullmatch
# A request for an upgrade, which is not heeded: the parser would lose the body. What is not seen here, because it comes
# in pieces or twice, is refused where it has a body.
_upgrade = re.compile(rb"\A((?:[^\r\n]+\r\n)+?)upgrade(?=:)", re.IGNORECASE)


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol, bounded for whoever reaches the service without a proxy.

    Heads are bounded in bytes, fields and time, and so is silence. Trailers are dropped (RFC 9110, section 6.5.1). A
    request that begins before the last one was answered is not heard, and the connection closes after that answer.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a first request, unless there are too many connections."""
        super().connection_made(transport)
        self._in_body, self._is_deaf, self._unparsed = False, False, 0
        self._deadline = self.loop.time() + CLIENT_TIMEOUT
        self._abort_when_late()
        if len(self.connections) > resource.getrlimit(resource.RLIMIT_NOFILE)[0] - RESERVED_FILES:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Forget the connection."""
        self._timer.cancel()
        super().connection_lost(None)  # told of an error, uvicorn keeps its timer and all that hangs on it

    def data_received(self, data: bytes) -> None:
        """Parse what was read."""
        if self._is_deaf:
            return
        data = _upgrade.sub(rb"\1x-upgrade", data) if b"pgrade" in data and not self._in_body else data
        self._unparsed += len(data)
        super().data_received(data)
        if self._unparsed > MAX_HEAD and not self._is_deaf:
            self.send_400_response("")
        if self._in_body or (self._deadline == math.inf and self.cycle.response_complete):
            self._deadline = self.loop.time() + CLIENT_TIMEOUT

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio reads it, uvicorn gives None
        """Tell whether a client that sends no more is still to be answered (RFC 9112, section 9.6)."""
        if is_answering := self._is_answering():
            self.cycle.keep_alive = False
        return is_answering

    def on_message_begin(self) -> None:
        """Begin a head. An exception in here stops the parser, and uvicorn calls ``send_400_response``."""
        if self.cycle is not None and not self.cycle.response_complete:
            raise ValueError("requests are not pipelined")
        super().on_message_begin()
        self._deadline = self.loop.time() + CLIENT_TIMEOUT

    def on_headers_complete(self) -> None:
        """Begin with the request."""
        if len(self.headers) > MAX_FIELDS or (self._unparsed > MAX_HEAD and _size(self.url, self.headers) > MAX_HEAD):
            raise ValueError("the head is too large")
        _check_framing(self.parser.get_http_version(), self.headers, is_upgrade=self.parser.should_upgrade())
        super().on_headers_complete()
        self._in_body, self._unparsed, self.headers = True, 0, []  # so that trailers are no headers
        if self.parser.should_upgrade() or self.expect_100_continue:
            self.cycle.keep_alive = False  # whether a body follows is not known
            self._is_deaf = self.parser.should_upgrade()

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
        self._is_deaf = True
        if self._is_answering() and (self.cycle.response_started or not self._in_body):
            self.cycle.keep_alive = False
            return
        if not self._in_body or not self.cycle.response_started:
            is_large = self._unparsed > MAX_HEAD or len(self.headers or ()) > MAX_FIELDS
            self.transport.write(_error(431 if is_large else 400, self.server_state.default_headers))
        if self._in_body:
            self.cycle.disconnected = True  # there is no second answer
        self.transport.close()

    def shutdown(self) -> None:
        """Close after the answer under way; an idle connection has a moment for a request that is on its way."""
        self.loop.call_later(0.0 if self._is_answering() else LAST_CALL, super().shutdown)

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _abort_when_late(self) -> None:  # one timer for a connection costs less than one for each request
        now = self.loop.time()
        if self.transport.is_closing() or self.flow.write_paused:  # the client does not take its answers
            self._deadline = min(self._deadline, now + CLIENT_TIMEOUT)
        if now >= self._deadline:
            self.transport.abort()
        else:
            self._timer = self.loop.call_later(min(self._deadline - now, CLIENT_TIMEOUT), self._abort_when_late)


def _check_framing(version: str, headers: list[tuple[bytes, bytes]], *, is_upgrade: bool) -> None:
    """Refuse what one server reads differently from another (RFC 9112, sections 2.3, 3.2 and 6.1).

    Raises:
        ValueError: another version than HTTP/1.0 and 1.1, more or less than one Host (in HTTP/1.0 it may be missing), a
            transfer coding that is not ``chunked`` alone, or a body that the parser will not read.
    """
    hosts = codings = length = 0
    for name, value in headers:
        if name == b"host":
            hosts += 1 if _is_host(value) else 2
        elif name == b"transfer-encoding":
            codings += 1 if value.lower() == b"chunked" else 2
        elif name == b"content-length":
            length = int(value)
    is_1_1 = version == "1.1" and hosts == 1 and codings <= 1
    is_1_0 = version == "1.0" and hosts <= 1 and not codings
    if not (is_1_1 or is_1_0) or (is_upgrade and (codings or length)):
        raise ValueError("no request of HTTP/1.1 or HTTP/1.0")


def _size(url: bytes, headers: list[tuple[bytes, bytes]]) -> int:
    return len(url) + sum(len(name) + len(value) for name, value in headers)


def _error(code: int, headers: list[tuple[bytes, bytes]]) -> bytes:
    status = HTTPStatus(code)
    body = orjson.dumps({"success": False, "message": status.phrase})
    lines = [b"HTTP/1.1 %d %s" % (status, status.phrase.encode()), *(b"%s: %s" % header for header in headers)]
    lines += [b"content-type: application/json", b"content-length: %d" % len(body), b"cache-control: no-store"]
    return b"\r\n".join([*lines, b"connection: close", b"", body])

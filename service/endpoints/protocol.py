"""HTTP/1.1 as uvicorn speaks it, with the bounds that it lacks. What else bounds a connection is the proxy's."""

import asyncio
import math
import resource
from http import HTTPStatus

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD = 65_536
"""Bytes of a request line with its headers, counted as they are read: one read may bring 256 KiB."""
MAX_FIELDS = 256
"""Header fields of a request."""
REQUEST_TIMEOUT = 15.0
"""Seconds for a first request to begin, for a head to be complete, and for silence within a request."""
LAST_CALL = 0.1
"""Seconds that an idle connection stays open when the service begins to end: a request may be on its way."""
RESERVED_FILES = 64
"""Open files that no connection may take: the event log and the spool need some."""


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol with the bounds that it lacks, for whoever reaches the service without a proxy.

    A head is bounded in bytes, fields and time; silence is bounded; chunked trailers are dropped (RFC 9110, section
    6.5.1); and requests are not pipelined: when one begins before the last one was answered, the connection closes
    after that answer. Bodies that drip, slow readers and TLS are the proxy's.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a first request."""
        super().connection_made(transport)
        self._in_head = self._is_deaf = False
        self._held = 0  # bytes read since a request began, or a piece of its body came out of the parser
        self._until = self.loop.time() + REQUEST_TIMEOUT
        self._timer = self.loop.call_later(REQUEST_TIMEOUT, self._cut_when_late)
        if len(self.connections) > resource.getrlimit(resource.RLIMIT_NOFILE)[0] - RESERVED_FILES:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        if self._is_deaf:
            return
        self._held += len(data)
        if not self._in_head and self._is_answering():
            self._until = self.loop.time() + REQUEST_TIMEOUT
        super().data_received(data)
        if self._held > MAX_HEAD and not self._is_deaf:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio asks for it, uvicorn gives None
        """Tell whether a client that sends no more is still to be answered (RFC 9112, section 9.6)."""
        if is_answering := self._is_answering():
            self.cycle.keep_alive = False
        return is_answering

    def on_message_begin(self) -> None:
        """Begin a head, or stop to listen where the request before it is not answered yet."""
        if self._is_answering():
            self._is_deaf = True
            self.cycle.keep_alive = False
            raise ValueError("requests are not pipelined")  # the parser stops
        super().on_message_begin()
        self._in_head = True
        self._until = self.loop.time() + REQUEST_TIMEOUT

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; a trailer is none."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin with the request."""
        self._in_head = False
        if len(self.headers) > MAX_FIELDS:
            raise ValueError("too many header fields")
        self._held = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._held = 0
        super().on_body(body)

    def on_response_complete(self) -> None:
        """Wait for the next request, for as long as uvicorn's keep-alive says."""
        self._until = math.inf
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's signature
        """Refuse what the parser does not take; to a request behind an unanswered one nothing is said."""
        if not self._is_deaf:
            too_many = len(self.headers or ()) > MAX_FIELDS
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE if too_many else HTTPStatus.BAD_REQUEST)

    def shutdown(self) -> None:
        """Close after the answer under way; an idle connection has a moment for a request that is on its way."""
        if self._is_answering():
            self.cycle.keep_alive = False
        else:
            self.loop.call_later(LAST_CALL, super().shutdown)

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self, status: HTTPStatus) -> None:
        """Answer with an error, unless an answer has begun, and close."""
        self._is_deaf = True
        if not (self._is_answering() and self.cycle.response_started):
            body = orjson.dumps({"success": False, "message": status.phrase})
            head = f"HTTP/1.1 {status} {status.phrase}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
            self.transport.write(head.encode() + b"\r\ncache-control: no-store\r\nconnection: close\r\n\r\n" + body)
        self.transport.close()

    def _cut_when_late(self) -> None:
        """Cut the connection when its time is over; one timer for a connection, not one for each request."""
        left = self._until - self.loop.time()
        if left <= 0:
            self.transport.abort()
        else:
            self._timer = self.loop.call_later(min(left, REQUEST_TIMEOUT), self._cut_when_late)

"""HTTP/1.1 as uvicorn speaks it, with the bounds that it lacks: on a request's head, on time, and on pipelining."""

import asyncio
import json
import resource
from functools import partial
from http import HTTPStatus
from typing import Any, ClassVar
from urllib.parse import unquote

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.cycle import Cycle
from service.polite_transport import PoliteTransport
from service.turns import AT_ONCE, Turns

MAX_HEAD = 65_536
"""Bytes of a request line and its headers, counted in steps of at most ``PIECE``; chunked trailers likewise."""
MAX_FIELDS = 256
"""Header fields of a request, trailers included."""
PIECE = 4096
"""Bytes that are parsed at once. What they hold is all that a client can queue by pipelining."""
DEADLINE = 15.0
"""Seconds that a connection may wait for a request, for the rest of one, or for its client to take the response."""
LAST_CALL = 0.1
"""Seconds that an idle connection stays open when the service begins to end."""
RESERVE = 64
"""Open files that no connection may take: the event log and the spool need some."""
LINGER = 2.0
"""Seconds that a client which is still sending has to read its last response before its connection is cut."""


class HttpProtocol(HttpToolsProtocol):
    """One connection.

    uvicorn's parser keeps what it has of a header, however long, and its queue of pipelined requests has no end. So it
    is fed in pieces here: between two of them it is seen what they brought, and nothing is added for each header.

    Args:
        *args: uvicorn's own.
        turns: which requests of all connections begin when; without it those of this connection alone.
        **kwargs: uvicorn's own.
    """

    deadline: ClassVar[float] = DEADLINE

    def __init__(self, *args: Any, turns: Turns | None = None, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's own
        super().__init__(*args, **kwargs)
        self._turns = turns or Turns()
        self.headers = []
        self._raw: asyncio.Transport = self.transport
        self._timer: asyncio.TimerHandle
        self._answering: RequestResponseCycle | None = None
        self._since = 0.0  # when the connection came into its present state, on the loop's clock
        self._held = 0  # bytes that the parser has been fed since a request began or a piece of a body came out
        self._unparsed = b""  # what came behind pipelined requests that wait for their turn
        self._receiving = False  # a request has begun and has not ended
        self._stopping = False  # no further request is answered
        self._refusal: HTTPStatus | None = None
        self._lingering = False
        self._half_closed = False  # the client sends no more, but may still read

    # What the socket tells.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a first request."""
        super().connection_made(transport)
        self._polite = PoliteTransport(transport, self._hang_up)
        self._raw, self.transport = transport, self._polite
        self._since = self.loop.time()
        self._timer = self.loop.call_later(self.deadline, self._cut_when_overdue)
        if len(self.connections) > resource.getrlimit(resource.RLIMIT_NOFILE)[0] - RESERVE:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._timer.cancel()
        self.pipeline.clear()
        # uvicorn tells the newest request only; the one that is being answered may be an older one.
        if self._answering is not None:
            self._answering.disconnected = True
            self._answering.message_event.set()
        super().connection_lost(exc)
        # These refer back to us; without them all that the connection held is freed now, not by a later collection.
        self.transport = self._raw
        del self._polite
        self._answering = None
        self.cycle = None  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Parse it piece by piece, for as long as nothing waits in the queue and nothing is wrong."""
        if self._lingering or self._refusal is not None:
            return  # the client talks on; what it says is not heard any more
        if self._unparsed:
            self._unparsed += data
            self.flow.pause_reading()
            return
        for start in range(0, len(data), PIECE):
            if self.pipeline:
                self._unparsed = data[start:]
                self.flow.pause_reading()
                return
            piece = data[start : start + PIECE]
            self._held += len(piece)
            super().data_received(piece)
            if self._refusal is not None or self.transport.is_closing():
                return
            if self._held > MAX_HEAD or len(self.headers) > MAX_FIELDS:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
                return

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio asks for it, uvicorn gives None
        """Tell whether the client, who has closed his side, is still to be answered (RFC 9112, section 9.6)."""
        self._half_closed = True
        return not (self._lingering or (self._is_idle() and not self._unparsed))

    # What the parser tells.

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._held = 0
        self._receiving = True
        self._since = self.loop.time()

    def on_headers_complete(self) -> None:
        """Its head is there: begin with the request, or queue it behind those that came before it.

        In uvicorn's place: that names its own class of cycles. What ``service.server`` does not use is not heeded here:
        a root path, a limit of concurrency, WebSocket.

        Raises:
            ValueError: it has too many fields, or a path that is not ASCII; the parser hands that, and a URL that it
                does not take, to uvicorn as an error of its own.
        """
        if len(self.headers) > MAX_FIELDS:
            raise ValueError("too many header fields")
        parser, scope = self.parser, self.scope
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        scope["method"] = parser.get_method().decode("ascii")
        scope["http_version"] = version = parser.get_http_version()
        scope["path"] = unquote(path) if "%" in path else path
        scope["raw_path"] = url.path
        scope["query_string"] = url.query or b""
        # After an Upgrade, which is not heeded, the parser would drop what the client has sent behind it.
        is_last = self._stopping or version == "1.0" or parser.should_upgrade() or not parser.should_keep_alive()
        before = self.cycle
        self.cycle = cycle = Cycle(
            scope=scope,
            transport=self._polite,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=not is_last,
            on_response=self.on_response_complete,
        )
        if before is None or before.response_complete:
            self._start_asgi_task(cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))
        self._since = self.loop.time()

    def on_body(self, body: bytes) -> None:
        """A piece of its body came; no body counts as part of a head."""
        self._held = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """It is there as a whole."""
        super().on_message_complete()
        self._receiving = False
        self._since = self.loop.time()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's signature
        """Refuse what the parser does not take."""
        too_large = len(self.headers) > MAX_FIELDS
        self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE if too_large else HTTPStatus.BAD_REQUEST)

    # What happens to requests, to responses and to the connection.

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Begin a request at once, or when it is its turn."""
        self._answering = cycle
        begin = super()._start_asgi_task
        if len(self.tasks) < AT_ONCE:
            begin(cycle, app)
        else:
            self._turns.wait(self.loop, partial(begin, cycle, app))

    def on_response_complete(self) -> None:
        """Go on with what waits, else wait for the next request.

        In uvicorn's place: that reads on, and queues more, after each response, and sets a timer after each.
        """
        self.server_state.total_requests += 1
        self._since = self.loop.time()
        if self.transport.is_closing():
            return
        if self._stopping:
            self.transport.close()
        elif self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._refusal is not None:
            self._answer_refusal(self._refusal)
        else:
            self.flow.resume_reading()
            if self._unparsed:
                data, self._unparsed = self._unparsed, b""
                self.data_received(data)
            if self._half_closed and self._is_idle():
                self.transport.close()

    def shutdown(self) -> None:
        """Close after the response under way; what was pipelined behind it is left unanswered.

        An idle client may have sent a request that has not been read yet; it has the time to be read and answered.
        """
        self._stopping = True
        if self._is_idle():
            self.loop.call_later(LAST_CALL, self._close_if_idle)
        else:
            self.cycle.keep_alive = False

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _close_if_idle(self) -> None:
        if self._is_idle():
            self.transport.close()

    def _refuse(self, status: HTTPStatus) -> None:
        """Answer with an error and close, once the requests before this one have been answered."""
        self._refusal = status
        if self._is_idle():
            self._answer_refusal(status)

    def _answer_refusal(self, status: HTTPStatus) -> None:
        # A request that had its response already, and went wrong in its body, gets no second one.
        if self.cycle is None or self.cycle.scope is not self.scope:
            body = json.dumps({"success": False, "message": status.phrase}, separators=(",", ":"))
            headers = [
                *self.server_state.default_headers,
                (b"content-type", b"application/json"),
                (b"content-length", b"%d" % len(body)),
                (b"cache-control", b"no-store"),
                (b"connection", b"close"),
            ]
            head = b"".join(b"%b: %b\r\n" % header for header in headers)
            self.transport.write(b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (status, status.phrase.encode(), head, body.encode()))
        self.transport.close()

    def _hang_up(self) -> None:
        """Close; a client that is still sending may finish, for a while.

        A socket that is closed while data arrives answers it with a reset, and the reset makes the client lose the
        response that it has not read yet (RFC 9112, section 9.6).
        """
        if self._half_closed or not (self._receiving or self._refusal is not None or self.flow.read_paused):
            self._raw.close()
            return
        self._lingering = self._polite.is_lingering = True
        self._unparsed = b""
        self._raw.write_eof()
        self.flow.resume_reading()
        self._since = self.loop.time()
        self._timer.cancel()
        self._timer = self.loop.call_later(LINGER, self._cut_when_overdue)

    def _cut_when_overdue(self) -> None:
        """Cut a connection that has been in one state for too long; look again later at any other.

        One timer for a connection, not one for each request.
        """
        left = self._since + (LINGER if self._lingering else self.deadline) - self.loop.time()
        if left > 0:
            self._timer = self.loop.call_later(left, self._cut_when_overdue)
        else:
            self._raw.abort()

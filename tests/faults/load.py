"""A load generator: paced, honest about stalls, and clear about what became of each request.

outcome = steady(server.url, logouts(valid(500)), rate=500, seconds=30)
outcome = burst(server.url, logouts(), count=20_000, connections=16)
with running(server.url, logouts(), rate=500) as load:
    server.process.kill()
    outcome = load.stop()
"""

import asyncio
import gc
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import orjson

from tests.faults.outcome import Answer, Failure, Outcome, Unanswered

CONNECTIONS = 64
TIMEOUT = 15.0
"""Seconds from the moment a request was due until it counts as never answered."""

Request = Callable[[int], bytes]
"""Makes the request with this number, counted from 0: the bytes that go over the wire."""


def steady(
    url: str,
    request: Request,
    *,
    rate: float,
    seconds: float,
    connections: int = CONNECTIONS,
    timeout: float = TIMEOUT,
) -> Outcome:
    """Send ``rate`` requests per second, whether the answers keep up or not, and wait for all of them."""
    load = Load(url, request, rate=rate, count=round(rate * seconds), connections=connections, timeout=timeout)
    return asyncio.run(load.run())


def burst(url: str, request: Request, *, count: int, connections: int, timeout: float = TIMEOUT) -> Outcome:
    """Send ``count`` requests as fast as so many connections get answers."""
    return asyncio.run(Load(url, request, rate=None, count=count, connections=connections, timeout=timeout).run())


@contextmanager
def running(
    url: str,
    request: Request,
    *,
    rate: float,
    connections: int = CONNECTIONS,
    timeout: float = TIMEOUT,
) -> Iterator["RunningLoad"]:
    """Send ``rate`` requests per second beside the test until it says ``stop``."""
    load = Load(url, request, rate=rate, count=None, connections=connections, timeout=timeout)
    with ThreadPoolExecutor(1, "load") as thread:
        background = RunningLoad(load, thread.submit(lambda: asyncio.run(load.run())))
        try:
            yield background
        finally:
            background.stop()


class RunningLoad:
    """A load in a thread of its own."""

    def __init__(self, load: "Load", result: Future[Outcome]) -> None:
        self._load = load
        self._result = result

    def stop(self) -> Outcome:
        """Send no more, wait for what is under way, and give the outcome."""
        self._load.stopping = True
        return self._result.result()


@dataclass(slots=True)
class _Job:
    number: int
    due: float
    raw: bytes
    timer: asyncio.TimerHandle | None = None
    sent: float | None = None
    connection: "_Connection | None" = None


class Load:
    """One run. Requests that are due while every connection is busy wait, and their waiting counts."""

    def __init__(
        self, url: str, request: Request, *, rate: float | None, count: int | None, connections: int, timeout: float
    ) -> None:
        target = urlsplit(url)
        assert target.hostname is not None
        assert target.port is not None
        self._host, self._port = target.hostname, target.port
        self._request = request
        self._rate = rate
        self._count = count
        self._most_connections = connections
        self._timeout = timeout
        self.stopping = False
        """Set from any thread: no further request is begun."""
        self._number = 0
        self._under_way: set[int] = set()
        self._waiting: deque[_Job] = deque()
        self._idle: list[_Connection] = []
        self._connections = 0
        self._connecting: set[asyncio.Task[None]] = set()
        self._outcome = Outcome([], [])
        self._none_under_way = asyncio.Event()

    async def run(self) -> Outcome:
        """Run to the end."""
        gc.freeze()  # a garbage collection over the whole test run would look like a stall of the service
        if self._rate is None:
            for _ in range(self._most_connections):
                self._begin_next()
        else:
            started = time.monotonic()
            while not self._is_over():
                due = started + self._number / self._rate
                # Also when the time has come already: the connections must be served in between.
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                while not self._is_over() and due <= time.monotonic():
                    self._begin(due)
                    due = started + self._number / self._rate
        while self._under_way:
            self._none_under_way.clear()
            await self._none_under_way.wait()
        for connection in self._idle:
            connection.close()
        await asyncio.sleep(0)  # closes the sockets
        return self._outcome

    def _is_over(self) -> bool:
        return self.stopping or self._number == self._count

    def _begin_next(self) -> None:
        if not self._is_over():
            self._begin(time.monotonic())

    def _begin(self, due: float) -> None:
        job = _Job(self._number, due, self._request(self._number))
        self._number += 1
        self._under_way.add(job.number)
        job.timer = asyncio.get_running_loop().call_later(self._timeout, self._fail, job, Failure.TIMEOUT)
        self._waiting.append(job)
        self._serve_waiting()

    def _serve_waiting(self) -> None:
        while self._waiting:
            if self._idle:
                self._idle.pop().send(self._waiting.popleft())
            elif self._connections < self._most_connections:
                self._connections += 1
                task = asyncio.create_task(self._connect(self._waiting.popleft()))
                self._connecting.add(task)
                task.add_done_callback(self._connecting.discard)
            else:
                return

    async def _connect(self, job: _Job) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout):
                _, connection = await loop.create_connection(lambda: _Connection(self), self._host, self._port)
        except (OSError, TimeoutError):
            self._connections -= 1
            self._fail(job, Failure.REFUSED)
            return
        if job.number in self._under_way:
            connection.send(job)
        else:
            connection.close()

    def answered(self, job: _Job, status: int, body: bytes) -> None:
        """Take an answer."""
        if job.number not in self._under_way:
            return
        said = orjson.loads(body) if b'"event_id"' in body else {}
        latency = time.monotonic() - job.due
        assert job.sent is not None
        answer = Answer(
            job.number, job.sent, latency, status, said.get("event_id"), recorded=said.get("recorded") is True
        )
        self._outcome.answers.append(answer)
        self._ended(job)

    def free(self, connection: "_Connection") -> None:
        """Take back a connection that can be used again."""
        self._idle.append(connection)
        self._serve_waiting()

    def closed(self, connection: "_Connection", job: _Job | None, *, used: bool) -> None:
        """Hear of a connection that has ended, perhaps with a request under way."""
        self._connections -= 1
        if connection in self._idle:
            self._idle.remove(connection)
        if job is not None:
            self._fail(job, Failure.STALE if used else Failure.RESET)
        self._serve_waiting()

    def _fail(self, job: _Job, failure: Failure) -> None:
        if job.number not in self._under_way:
            return
        self._outcome.unanswered.append(Unanswered(job.number, failure, job.sent))
        if job.connection is not None:
            job.connection.close()
        elif job in self._waiting:
            self._waiting.remove(job)
        self._ended(job)

    def _ended(self, job: _Job) -> None:
        assert job.timer is not None
        job.timer.cancel()
        self._under_way.discard(job.number)
        if self._rate is None:
            self._begin_next()
        if not self._under_way:
            self._none_under_way.set()


class _Connection(asyncio.Protocol):
    """One connection, with one request under way at a time."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._transport: asyncio.Transport
        self._job: _Job | None = None
        self._received = b""
        self._used = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def send(self, job: _Job) -> None:
        self._job = job
        job.connection = self
        # asyncio's own transport hands it to the kernel before it returns (uvloop's would not).
        self._transport.write(job.raw)
        if self._transport.get_write_buffer_size() == 0:
            job.sent = time.monotonic()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        head = head.lower()
        length = int(head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        job, self._job, self._received, self._used = self._job, None, b"", True
        assert job is not None, "an answer came that nobody asked for"
        self._load.answered(job, int(head[9:12]), body)
        if b"\r\nconnection: close" in head:
            self.close()
        else:
            self._load.free(self)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        job, self._job = self._job, None
        self._load.closed(self, job, used=self._used)

    def close(self) -> None:
        self._transport.close()

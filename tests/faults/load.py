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
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import orjson

from tests.faults.outcome import Answer, Failure, Outcome, Unanswered

CONNECTIONS = 64
TIMEOUT = 15.0
"""Seconds from the moment a request was due until it counts as never answered."""

Request = Callable[[int], bytes]
"""Makes the request with this number, counted from 0: the bytes that go over the wire."""


def steady(url: str, request: Request, *, rate: float, seconds: float, connections: int = CONNECTIONS) -> Outcome:
    """Send ``rate`` requests per second, whether the answers keep up or not, and wait for all of them."""
    load = Load(url, request, connections)
    return asyncio.run(load.run(load.pace(rate, count=round(rate * seconds))))


def burst(url: str, request: Request, *, count: int, connections: int, timeout: float = TIMEOUT) -> Outcome:
    """Send ``count`` requests as fast as so many connections get answers."""
    load = Load(url, request, connections, timeout)
    return asyncio.run(load.run(load.hurry(count)))


@contextmanager
def running(url: str, request: Request, *, rate: float, connections: int = CONNECTIONS) -> Iterator["Load"]:
    """Send ``rate`` requests per second beside the test until it says ``stop``."""
    load = Load(url, request, connections)
    with ThreadPoolExecutor(1, "load") as thread:
        load.result = thread.submit(lambda: asyncio.run(load.run(load.pace(rate))))
        try:
            yield load
        finally:
            load.stop()


class Load:
    """One run. Requests that are due while every connection is busy wait, and their waiting counts."""

    def __init__(self, url: str, request: Request, connections: int, timeout: float = TIMEOUT) -> None:
        target = urlsplit(url)
        self._host, self._port = target.hostname, target.port
        self._request = request
        self._connections = connections
        self._timeout = timeout
        self.result: Future[Outcome]
        """That of a load in a thread of its own."""
        self._stopping = False
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._outcome = Outcome([], [])

    def stop(self) -> Outcome:
        """Send no more, wait for what is under way, and give the outcome; called from another thread."""
        self._stopping = True
        return self.result.result()

    async def run(self, requests: Coroutine[object, object, None]) -> Outcome:
        """Send these, and give what came of them."""
        gc.freeze()  # a garbage collection over the whole test run would look like a stall of the service
        self._free = asyncio.Semaphore(self._connections)
        await requests
        for _, writer in self._idle:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
        return self._outcome

    async def pace(self, rate: float, count: float = float("inf")) -> None:
        """Begin so many requests a second."""
        started, number = time.monotonic(), 0
        async with asyncio.TaskGroup() as group:
            while number < count and not self._stopping:
                due = started + number / rate
                # Also when the time has come already: the connections must be served in between.
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                while number < count and due <= time.monotonic():
                    group.create_task(self._call(number, due))
                    number += 1
                    due = started + number / rate

    async def hurry(self, count: int) -> None:
        """Begin the next request as soon as there is an answer."""
        numbers = iter(range(count))

        async def client() -> None:
            for number in numbers:
                await self._call(number, time.monotonic())

        await asyncio.gather(*(client() for _ in range(self._connections)))

    async def _call(self, number: int, due: float) -> None:
        connection, sent, used = None, None, False
        try:
            async with asyncio.timeout_at(due + self._timeout), self._free:
                connection = self._kept_open()
                used = connection is not None
                if connection is None:
                    connection = await asyncio.open_connection(self._host, self._port)
                reader, writer = connection
                writer.write(self._request(number))
                # asyncio's own transport hands it to the kernel before it returns (uvloop's would not).
                if writer.transport.get_write_buffer_size() == 0:
                    sent = time.monotonic()
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                body = await reader.readexactly(int(head.partition(b"\ncontent-length:")[2].partition(b"\r")[0]))
                latency = time.monotonic() - due
                if b"\nconnection: close" in head:
                    writer.close()
                else:
                    self._idle.append(connection)
        except (OSError, EOFError) as error:
            failure = Failure.STALE if used else Failure.RESET if connection else Failure.REFUSED
            if isinstance(error, TimeoutError):
                failure = Failure.TIMEOUT
            self._outcome.unanswered.append(Unanswered(number, failure, sent))
            if connection is not None:
                connection[1].close()
            return
        said = orjson.loads(body) if b'"event_id"' in body else {}
        answer = Answer(
            number, sent or 0.0, latency, int(head[9:12]), said.get("event_id"), recorded=said.get("recorded") is True
        )
        self._outcome.answers.append(answer)

    def _kept_open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return None

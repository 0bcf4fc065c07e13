"""Questions that are asked at about the same time make one round trip."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

TIMEOUT_TICKS = 10
"""Parts in which a timeout is counted. An event loop that is busy, as with the first of 400 requests at once, runs late
timers before it reads the answer that came in time; a part that ends late counts no more than another."""

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class Batcher(Generic[Question, Answer]):
    """What is asked in one turn of the event loop, or while all round trips are under way, goes in the next one.

    A question never shares a round trip that began before it was asked: what happened in between would be missing.

    Args:
        ask: makes one round trip; gives an answer for each question, in their order, or raises.
        max_size: questions in one round trip.
        max_concurrency: round trips at the same time.
    """

    def __init__(
        self, ask: Callable[[Sequence[Question]], Awaitable[Sequence[Answer]]], *, max_size: int, max_concurrency: int
    ) -> None:
        self._ask = ask
        self._max_size = max_size
        self._max_concurrency = max_concurrency
        self._waiting: deque[tuple[Question, asyncio.Future[Answer]]] = deque()
        self._round_trips: set[asyncio.Task[None]] = set()

    def submit(self, question: Question, timeout: float) -> asyncio.Future[Answer]:
        """Ask, and give the future answer, or what the round trip raises. Cancel it to take the question back.

        After ``timeout`` seconds it raises ``TimeoutError``; a busy event loop may take longer.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._start)  # after those who are to run before it, and may ask as well
        self._waiting.append((question, future))
        _tick(loop, future, timeout / TIMEOUT_TICKS, TIMEOUT_TICKS)
        return future

    async def close(self) -> None:
        """Cancel all questions."""
        for _, future in self._waiting:
            future.cancel()
        self._waiting.clear()
        for round_trip in self._round_trips:
            round_trip.cancel()
        await asyncio.gather(*self._round_trips, return_exceptions=True)

    def _start(self) -> None:
        while self._waiting and len(self._round_trips) < self._max_concurrency:
            batch: list[tuple[Question, asyncio.Future[Answer]]] = []
            while self._waiting and len(batch) < self._max_size:
                question, future = self._waiting.popleft()
                if not future.done():
                    batch.append((question, future))
            if batch:
                round_trip = asyncio.create_task(self._make_round_trip(batch))
                self._round_trips.add(round_trip)
                round_trip.add_done_callback(self._finish)

    def _finish(self, round_trip: asyncio.Task[None]) -> None:
        self._round_trips.discard(round_trip)
        self._start()

    async def _make_round_trip(self, batch: Sequence[tuple[Question, asyncio.Future[Answer]]]) -> None:
        try:
            answers = await self._ask([question for question, _ in batch])
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)
        except Exception as error:  # noqa: BLE001 - it belongs to those who asked
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
        finally:
            for _, future in batch:
                future.cancel()  # where this task is cancelled; else it has its answer


def _tick(loop: asyncio.AbstractEventLoop, future: asyncio.Future[Answer], seconds: float, ticks_left: int) -> None:
    if future.done():
        return
    if ticks_left == 0:
        future.set_exception(TimeoutError())
    else:
        loop.call_later(seconds, _tick, loop, future, seconds, ticks_left - 1)

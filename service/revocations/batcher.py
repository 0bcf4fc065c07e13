"""Questions that are asked at about the same time make one round trip."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

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
        self._waiting: asyncio.Queue[tuple[Question, asyncio.Future[Answer]]] = asyncio.Queue()
        self._workers = [asyncio.create_task(self._work(), name="batcher") for _ in range(max_concurrency)]

    def submit(self, question: Question, timeout: float) -> asyncio.Future[Answer]:
        """Ask, and give the future answer, or what the round trip raises. Cancel it to take the question back.

        After ``timeout`` seconds it raises ``TimeoutError``; a busy event loop may take longer.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self._waiting.put_nowait((question, future))
        _tick(loop, future, timeout / TIMEOUT_TICKS, TIMEOUT_TICKS)
        return future

    async def close(self) -> None:
        """Cancel all questions."""
        while not self._waiting.empty():
            self._waiting.get_nowait()[1].cancel()
        await cancel(self._workers)

    async def _work(self) -> None:
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < self._max_size and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            if batch := [(question, future) for question, future in batch if not future.done()]:
                await self._make_round_trip(batch)

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


async def cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they have ended: asyncio.wait_for of Python 3.11, in redis-py, may swallow one attempt."""
    while running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=0.1)


def _tick(loop: asyncio.AbstractEventLoop, future: asyncio.Future[Answer], seconds: float, ticks_left: int) -> None:
    if future.done():
        return
    if ticks_left == 0:
        future.set_exception(TimeoutError())
    else:
        loop.call_later(seconds, _tick, loop, future, seconds, ticks_left - 1)

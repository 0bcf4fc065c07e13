"""Questions that are asked together: many at the same moment make one round trip, or a handful."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class Together(Generic[Question, Answer]):
    """What is asked in one turn of the event loop, or while round trips are under way, goes in the next one.

    A question never shares the answer of a round trip that began before it was asked: what happened in between would
    be missing from it.

    Args:
        ask: one round trip; gives an answer for each question, in their order, or raises.
        most: questions in one round trip.
        at_once: round trips at the same time.
    """

    def __init__(
        self, ask: Callable[[Sequence[Question]], Awaitable[Sequence[Answer]]], *, most: int, at_once: int
    ) -> None:
        self._ask = ask
        self._most = most
        self._turns = at_once
        self._is_starting = False
        """A task was made that has not taken its questions yet."""
        self._waiting: deque[tuple[Question, asyncio.Future[Answer]]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, questions: Sequence[Question]) -> Sequence[Answer]:
        """Give the answers, or raise what the round trip raised. Waits for as long as the caller does."""
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[Answer]] = [loop.create_future() for _ in questions]
        self._waiting.extend(zip(questions, futures, strict=True))
        self._start()
        # One is the usual number, and gather costs as much as all the rest here.
        return [await futures[0]] if len(futures) == 1 else await asyncio.gather(*futures)

    async def close(self) -> None:
        """Give up what is under way, and who waits for it."""
        for _, future in self._waiting:
            future.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self) -> None:
        """Have those who wait served by a task, if there is a turn for it; it begins after who is to run before it."""
        if self._waiting and self._turns > 0 and not self._is_starting:
            self._is_starting = True
            self._turns -= 1
            task = asyncio.create_task(self._make_round_trips())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _make_round_trips(self) -> None:
        self._is_starting = False
        try:
            while asked := self._next():
                self._start()  # another, for what did not fit
                await self._make_round_trip(asked)
        finally:
            self._turns += 1

    async def _make_round_trip(self, asked: Sequence[tuple[Question, asyncio.Future[Answer]]]) -> None:
        try:
            answers = await self._ask([question for question, _ in asked])
            for (_, future), answer in zip(asked, answers, strict=True):
                if not future.done():  # whoever gave up has cancelled it
                    future.set_result(answer)
        except Exception as error:  # noqa: BLE001 - it belongs to those who asked
            for _, future in asked:
                if not future.done():
                    future.set_exception(error)
        finally:
            for _, future in asked:
                future.cancel()  # where this task is cancelled itself; else it has its result

    def _next(self) -> list[tuple[Question, asyncio.Future[Answer]]]:
        """Take the questions of one round trip, without those that somebody has given up."""
        asked: list[tuple[Question, asyncio.Future[Answer]]] = []
        while self._waiting and len(asked) < self._most:
            question, future = self._waiting.popleft()
            if not future.done():
                asked.append((question, future))
        return asked

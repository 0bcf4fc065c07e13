"""Questions that go together, over round trips that end when the test says so."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

import pytest

from service.revocations.batcher import Batcher, cancel
from tests.revocations.conftest import SECONDS
from tests.support.redis_server import until


class RoundTrips:
    """Answers each question with itself, doubled."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.may_end = asyncio.Semaphore(0)
        self.problem: Exception | None = None

    async def __call__(self, questions: Sequence[int]) -> list[int]:
        self.asked.append(list(questions))
        await self.may_end.acquire()
        if self.problem is not None:
            raise self.problem
        return [2 * question for question in questions]

    def end(self, how_many: int = 1) -> None:
        for _ in range(how_many):
            self.may_end.release()


@pytest.fixture
def trips() -> RoundTrips:
    return RoundTrips()


@pytest.fixture
async def batcher(trips: RoundTrips, request: pytest.FixtureRequest) -> AsyncIterator[Batcher[int, int]]:
    """Asks for at most four at once, in one round trip unless the test says how many."""
    batcher = Batcher(trips, max_size=4, max_concurrency=getattr(request, "param", 1))
    yield batcher
    await batcher.close()


def ask(batcher: Batcher[int, int], *questions: int) -> list[asyncio.Future[int]]:
    return [batcher.submit(question, SECONDS) for question in questions]


async def test_questions_of_one_moment_go_together(trips: RoundTrips, batcher: Batcher[int, int]) -> None:
    trips.end(3)
    assert await asyncio.gather(*ask(batcher, *range(10))) == [2 * number for number in range(10)]
    assert trips.asked == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


@pytest.mark.parametrize(("batcher", "together"), [(1, False), (2, True)], indirect=["batcher"])
async def test_a_question_joins_no_round_trip_under_way(
    trips: RoundTrips, batcher: Batcher[int, int], together: bool
) -> None:
    """It waits for its end, unless another one may begin beside it."""
    answers = ask(batcher, 1)
    await until(lambda: trips.asked == [[1]])
    answers += ask(batcher, 1, 2)
    if not together:
        trips.end()
    await until(lambda: trips.asked == [[1], [1, 2]])
    trips.end(2)
    assert await asyncio.gather(*answers) == [2, 2, 4]


async def test_a_failure_is_that_of_its_round_trip_alone(trips: RoundTrips, batcher: Batcher[int, int]) -> None:
    """And who is cancelled takes nobody along."""
    first, second = ask(batcher, 1, 2)
    await until(lambda: trips.asked == [[1, 2]])
    waiting = ask(batcher, 3, 4, 5, 6, 7, 8, 9)
    for answer in (first, *waiting[:4]):  # one under way, and a round trip that nobody needs any more
        answer.cancel()
    trips.end()
    assert await second == 4
    await until(lambda: trips.asked == [[1, 2], [7, 8, 9]])
    trips.problem = ValueError("lost")
    waiting[4].cancel()
    trips.end()
    outcomes = await asyncio.gather(*waiting[4:], return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError, ValueError, ValueError]
    trips.problem = None
    trips.end()
    assert await batcher.submit(5, SECONDS) == 10


async def test_closing_cancels_all(trips: RoundTrips, batcher: Batcher[int, int]) -> None:
    answers = ask(batcher, *range(6))
    await until(lambda: trips.asked == [[0, 1, 2, 3]])
    await batcher.close()
    assert all(answer.cancelled() for answer in answers)


async def test_while_the_loop_is_busy_an_answer_is_still_seen() -> None:
    """Each turn of the event loop takes longer than the timeout, and an answer needs a few of them."""

    async def keep_busy() -> None:
        while True:
            time.sleep(0.02)  # noqa: ASYNC251 - that is the point
            await asyncio.sleep(0)

    async def answer(questions: Sequence[int]) -> Sequence[int]:
        for _ in range(5 if questions == [1] else 1000):
            await asyncio.sleep(0)
        return questions

    batcher = Batcher(answer, max_size=4, max_concurrency=1)
    busy = asyncio.create_task(keep_busy())
    assert await batcher.submit(1, 0.01) == 1
    with pytest.raises(TimeoutError):  # but there is an end
        await batcher.submit(2, 0.01)
    await cancel([busy])
    await batcher.close()

"""Questions that go together, over round trips that end when the test says so."""

import asyncio
from collections.abc import Sequence

import pytest

from service.revocations.batcher import Together
from tests.support.redis_server import until


class RoundTrips:
    """Answers each question with itself, doubled."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.may_end = asyncio.Semaphore(0)
        self.problem: Exception | None = None

    async def __call__(self, questions: Sequence[int]) -> list[int]:
        self.asked.append(list(questions))
        await asyncio.sleep(0)
        await self.may_end.acquire()
        if self.problem is not None:
            raise self.problem
        return [2 * question for question in questions]

    def end(self, how_many: int = 1) -> None:
        for _ in range(how_many):
            self.may_end.release()


async def test_who_is_alone_is_asked_alone_and_at_once() -> None:
    trips = RoundTrips()
    trips.end()
    assert await Together(trips, most=10, at_once=1).ask([4]) == [8]


async def asked_while_the_first_is_under_way(
    together: Together[int, int], trips: RoundTrips, *questions: int
) -> list[asyncio.Task[Sequence[int]]]:
    """Tasks that ask 0, and these when its round trip has begun."""
    tasks = [asyncio.create_task(together.ask([0]))]
    await until(lambda: trips.asked == [[0]])
    return tasks + [asyncio.create_task(together.ask([question])) for question in questions]


async def test_a_thousand_questions_at_once_are_as_many_round_trips_as_they_need() -> None:
    trips = RoundTrips()
    trips.end(1000)
    together = Together(trips, most=500, at_once=2)
    answers = await asyncio.gather(*(together.ask([number]) for number in range(1000)))
    assert answers == [[2 * number] for number in range(1000)]
    assert [len(questions) for questions in trips.asked] == [500, 500]


async def test_who_asks_in_the_same_turn_of_the_event_loop_goes_along_without_a_task_of_his_own() -> None:
    trips = RoundTrips()
    trips.end()
    together = Together(trips, most=10, at_once=2)
    asking = asyncio.gather(*(together.ask([number]) for number in range(3)))
    await asyncio.sleep(0)
    assert len(together._tasks) == 1
    assert await asking == [[0], [2], [4]]


async def test_with_one_round_trip_that_hangs_the_next_questions_go_in_another() -> None:
    trips = RoundTrips()
    together = Together(trips, most=10, at_once=2)
    tasks = await asked_while_the_first_is_under_way(together, trips, 1, 2)
    await until(lambda: trips.asked == [[0], [1, 2]])
    trips.end(2)
    assert await asyncio.gather(*tasks) == [[0], [2], [4]]


async def test_a_question_goes_in_no_round_trip_that_began_before_it() -> None:
    trips = RoundTrips()
    together = Together(trips, most=10, at_once=1)
    tasks = [asyncio.create_task(together.ask([1]))]
    await until(lambda: trips.asked == [[1]])
    tasks += [asyncio.create_task(together.ask([number])) for number in (1, 2)]
    await asyncio.sleep(0)
    assert trips.asked == [[1]]
    trips.end()
    await until(lambda: trips.asked == [[1], [1, 2]])
    trips.end()
    assert await asyncio.gather(*tasks) == [[2], [2], [4]]


async def test_many_questions_of_one_are_split() -> None:
    trips = RoundTrips()
    trips.end(3)
    together = Together(trips, most=4, at_once=2)
    assert await together.ask(range(10)) == [2 * number for number in range(10)]
    assert trips.asked == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


async def test_a_round_trip_that_fails_fails_for_those_who_were_in_it() -> None:
    trips = RoundTrips()
    together = Together(trips, most=10, at_once=1)
    tasks = await asked_while_the_first_is_under_way(together, trips, 1, 2)
    trips.end()
    await until(lambda: trips.asked == [[0], [1, 2]])
    trips.problem = ValueError("lost")
    tasks[2].cancel()
    trips.end()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert outcomes[0] == [0]
    assert isinstance(outcomes[1], ValueError)
    assert isinstance(outcomes[2], asyncio.CancelledError)
    trips.problem = None
    trips.end()
    assert await together.ask([5]) == [10]


@pytest.mark.parametrize("when", ["waiting", "under way"])
async def test_whoever_gives_up_takes_nobody_with_him(when: str) -> None:
    trips = RoundTrips()
    together = Together(trips, most=10, at_once=1)
    tasks = await asked_while_the_first_is_under_way(together, trips, 1, 2)
    await asyncio.sleep(0)
    if when == "waiting":
        tasks[1].cancel()
        await asyncio.wait({tasks[1]})
    trips.end()
    await until(lambda: len(trips.asked) == 2)
    tasks[1].cancel()
    trips.end()
    assert await tasks[2] == [4]
    assert trips.asked == [[0], [2] if when == "waiting" else [1, 2]]


async def test_whoever_asked_first_and_gives_up_takes_nobody_of_his_round_trip_with_him() -> None:
    trips = RoundTrips()
    together = Together(trips, most=10, at_once=1)
    tasks = [asyncio.create_task(together.ask([number])) for number in range(2)]
    await until(lambda: trips.asked == [[0, 1]])
    tasks[0].cancel()
    trips.end()
    assert await tasks[1] == [2]


async def test_a_round_trip_that_everybody_has_given_up_leaves_the_turn_to_the_next() -> None:
    trips = RoundTrips()
    together = Together(trips, most=10, at_once=1)
    tasks = await asked_while_the_first_is_under_way(together, trips, 1)
    tasks[0].cancel()
    trips.end()
    await until(lambda: trips.asked == [[0], [1]])
    trips.end()
    assert await tasks[1] == [2]


@pytest.mark.parametrize("at_once", [1, 2])
async def test_the_end_gives_up_what_is_under_way_and_what_waits(at_once: int) -> None:
    trips = RoundTrips()
    together = Together(trips, most=10, at_once=at_once)
    first = asyncio.create_task(together.ask([1]))
    asking = asyncio.create_task(together.ask(range(11)))
    await until(lambda: len(trips.asked) == at_once)
    await together.close()
    await asyncio.wait({first, asking}, timeout=5)
    assert first.cancelled()
    assert asking.cancelled()


async def test_the_end_gives_up_what_has_not_begun_yet() -> None:
    trips = RoundTrips()
    together = Together(trips, most=10, at_once=1)
    asking = asyncio.create_task(together.ask([1]))
    await asyncio.sleep(0)
    await together.close()
    await asyncio.wait({asking}, timeout=5)
    assert asking.cancelled()
    assert trips.asked == []

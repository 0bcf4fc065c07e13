"""The limit of time, while the event loop is busy and while it is not."""

import asyncio
import time

import pytest

from service.revocations.patience import TICKS, Patience


async def test_what_takes_too_long_is_given_up() -> None:
    waiting = asyncio.get_running_loop().create_future()
    with pytest.raises(TimeoutError):
        async with Patience(0.01):
            await waiting
    assert waiting.cancelled()


async def test_what_is_done_in_time_is_not_touched() -> None:
    async with Patience(30):
        await asyncio.sleep(0)
    with pytest.raises(ValueError, match=r"^its own$"):
        async with Patience(30):
            raise ValueError("its own")


async def test_while_the_loop_is_busy_an_answer_that_has_come_is_still_seen() -> None:
    """Busy for three times the limit, in a few pieces; the answer needs as many turns of the loop after that."""
    async with Patience(0.01):
        for _ in range(6):
            time.sleep(0.005)  # noqa: ASYNC251 - that is the point
            await asyncio.sleep(0)


async def test_however_busy_the_loop_is_there_is_an_end() -> None:
    async def be_busy() -> None:
        async with Patience(0.001):
            while True:
                time.sleep(0.001)  # noqa: ASYNC251 - that is the point
                await asyncio.sleep(0)

    with pytest.raises(TimeoutError):
        await be_busy()


async def test_who_is_cancelled_is_cancelled() -> None:
    async def wait() -> None:
        async with Patience(30):
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()


async def test_who_is_cancelled_while_time_is_over_is_cancelled() -> None:
    patience = Patience(30)

    async def wait() -> None:
        async with patience:
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    for _ in range(TICKS):
        patience._next.cancel()
        patience._pass()
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()


async def test_one_within_another_each_has_its_own_limit() -> None:
    with pytest.raises(TimeoutError):
        async with Patience(0.01), Patience(30):
            await asyncio.Event().wait()
    async with Patience(30):
        with pytest.raises(TimeoutError):
            async with Patience(0.01):
                await asyncio.Event().wait()
        await asyncio.sleep(0)

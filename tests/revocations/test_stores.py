"""What every store does. Where two share one, what the first signs out is asked of the second."""

import pytest

from tests.revocations.conftest import Sharers

AT = 1_790_000_000.123456


async def test_a_signed_out_session_is_on_the_list_with_its_time(sharers: Sharers) -> None:
    await sharers.store.add(["sess_1"], at=AT, seconds=75)
    assert await sharers.store.find("sess_1") == AT
    assert await sharers.other.find("sess_1") == AT
    assert await sharers.other.find("sess_2") is None


async def test_it_leaves_the_list_when_its_time_is_over(sharers: Sharers) -> None:
    await sharers.store.add(["sess_1"], at=AT, seconds=75)
    sharers.let_pass(60)
    assert await sharers.other.find("sess_1") == AT
    sharers.let_pass(15)
    assert await sharers.store.find("sess_1") is None
    assert await sharers.other.find("sess_1") is None


@pytest.mark.parametrize("ends", [(75, 600), (600, 75)])
async def test_the_later_end_wins(sharers: Sharers, ends: tuple[int, int]) -> None:
    for seconds in ends:
        await sharers.store.add(["sess_1"], at=AT, seconds=seconds)
    sharers.let_pass(500)
    assert await sharers.other.find("sess_1") == AT
    sharers.let_pass(100)
    assert await sharers.other.find("sess_1") is None


@pytest.mark.parametrize("times", [(AT, AT - 9), (AT - 9, AT)])
async def test_the_earlier_time_wins_in_whichever_order_they_come(sharers: Sharers, times: tuple[float, float]) -> None:
    for at in times:
        await sharers.store.add(["sess_1"], at=at, seconds=75)
    assert await sharers.other.find("sess_1") == AT - 9


async def test_1200_sessions_are_signed_out_at_once(sharers: Sharers) -> None:
    session_ids = [f"sess_{number:027}" for number in range(1200)]
    await sharers.store.add(session_ids, at=AT, seconds=75)
    assert [await sharers.other.find(session_id) for session_id in session_ids] == [AT] * 1200


async def test_no_sessions_at_all_are_no_mistake(sharers: Sharers) -> None:
    await sharers.store.add([], at=AT, seconds=75)
    assert sharers.store.problem is None


@pytest.mark.parametrize("session_id", ["x" * 128, "{a}:b*", "\"'\\%00"])
async def test_any_visible_ascii_is_a_session_id(sharers: Sharers, session_id: str) -> None:
    await sharers.store.add([session_id], at=AT, seconds=75)
    assert await sharers.other.find(session_id) == AT
    assert await sharers.other.find(session_id[:-1] + "~") is None


async def test_only_the_first_claim_is_the_first(sharers: Sharers) -> None:
    assert await sharers.store.claim("sess_1", seconds=60)
    assert not await sharers.other.claim("sess_1", seconds=60)
    assert not await sharers.store.claim("sess_1", seconds=60)
    assert await sharers.other.claim("sess_2", seconds=60)

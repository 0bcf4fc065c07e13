"""What every store does. Where two share one, what the first signs out is asked of the second."""

import pytest

from tests.revocations.conftest import AT, Sharers


async def test_a_signed_out_session_is_listed_until_its_end(sharers: Sharers) -> None:
    await sharers.store.add(["sess_1"], at=AT, seconds=75)
    sharers.let_pass(60)
    assert [await store.find("sess_1") for store in sharers[:2]] == [AT, AT]
    assert await sharers.other.find("sess_2") is None
    sharers.let_pass(15)
    assert [await store.find("sess_1") for store in sharers[:2]] == [None, None]
    await sharers.store.add(["sess_1"], at=AT + 9, seconds=75)
    assert await sharers.other.find("sess_1") == AT + 9, "the one that ended leaves nothing to it"


@pytest.mark.parametrize("ends", [(75, 600), (600, 75)])
async def test_the_later_end_wins(sharers: Sharers, ends: tuple[int, int]) -> None:
    for seconds in ends:
        await sharers.store.add(["sess_1"], at=AT, seconds=seconds)
    sharers.let_pass(500)
    assert await sharers.other.find("sess_1") == AT
    sharers.let_pass(100)
    assert await sharers.other.find("sess_1") is None


@pytest.mark.parametrize("times", [(AT, AT - 9), (AT - 9, AT)])
async def test_the_earlier_time_wins(sharers: Sharers, times: tuple[float, float]) -> None:
    for at in times:
        await sharers.store.add(["sess_1"], at=at, seconds=75)
    assert [await store.find("sess_1") for store in sharers[:2]] == [AT - 9, AT - 9]


@pytest.mark.parametrize("count", [0, 1200])
async def test_any_number_is_signed_out_at_once(sharers: Sharers, count: int) -> None:
    session_ids = [f"sess_{number:027}" for number in range(count)]
    await sharers.store.add(session_ids, at=AT, seconds=75)
    assert [await sharers.other.find(session_id) for session_id in session_ids] == [AT] * count
    assert sharers.store.problem is None


@pytest.mark.parametrize("session_id", ["x" * 128, "{a}:b*", "\"'\\%00"])
async def test_any_visible_ascii_is_a_session_id(sharers: Sharers, session_id: str) -> None:
    await sharers.store.add([session_id], at=AT, seconds=75)
    assert await sharers.other.find(session_id) == AT
    assert await sharers.other.find(session_id[:-1] + "~") is None


async def test_only_the_first_claim_is_the_first(sharers: Sharers) -> None:
    claims = [
        (sharers.store, "sess_1"),
        (sharers.other, "sess_1"),
        (sharers.store, "sess_1"),
        (sharers.other, "sess_2"),
    ]
    found = [await store.claim(session_id, seconds=60) for store, session_id in claims]
    assert found == [True, False, False, True]
    sharers.let_pass(60)
    assert await sharers.other.claim("sess_1", seconds=60)

"""One token, replayed: its lines are bounded, its calls are all counted, and its session stays signed out."""

import time

import pytest

from tests.conftest import OpenClient
from tests.support.lines import EventFile
from tests.support.signing import claims, token

SESSION = "/v1/auth/session"
BURST = 3


def bearer(*, expired: bool = False, session: str = "sess_2abcDEF") -> dict[str, str]:
    now = time.time() - (300 if expired else 0)
    return {"Authorization": f"Bearer {token(claims(now=now, sid=session))}"}


@pytest.mark.parametrize("expired", [True, False])
async def test_a_replayed_token_writes_at_most_burst_and_t_lines(
    open_client: OpenClient, events: EventFile, *, expired: bool
) -> None:
    headers = bearer(expired=expired)
    async with open_client(flood_per_session=BURST) as client:
        started = time.monotonic()
        answers = [(await client.delete(SESSION, headers=headers)) for _ in range(50)]
        seconds = time.monotonic() - started
        lines = events.new()
        metrics = (await client.get("/metrics")).text
    summary = events.one()
    assert {answer.status_code for answer in answers} == {200}
    assert BURST <= len(lines) <= BURST + seconds
    assert (summary["event"], summary["count"]) == ("user_logout_suppressed", 50 - len(lines))
    auth = "expired" if expired else "verified"
    assert f'clerk_logout_calls_suppressed_total{{auth="{auth}"}} {50.0 - len(lines)}' in metrics
    suppressed = [answer.json() for answer in answers if not answer.json()["recorded"]]
    assert {answer["event_id"] for answer in suppressed} == {summary["event_id"]}
    assert answers[0].json()["recorded"]


async def test_other_sessions_have_their_own_lines(open_client: OpenClient, events: EventFile) -> None:
    async with open_client(flood_per_session=1, flood_per_second=1) as client:
        for number in range(50):
            answer = await client.delete(SESSION, headers=bearer(session=f"sess_{number}"))
            assert answer.json()["recorded"]
    assert len(events.new()) == 50


async def test_a_verified_logout_over_the_limit_still_signs_its_session_out(open_client: OpenClient) -> None:
    async with open_client(flood_per_session=1) as client:
        await client.delete(SESSION, headers=bearer(expired=True))  # takes the token, and signs nobody out
        assert (await client.get(SESSION, headers=bearer())).status_code == 200
        assert not (await client.delete(SESSION, headers=bearer())).json()["recorded"]
        assert (await client.get(SESSION, headers=bearer())).json()["reason"] == "session-revoked"

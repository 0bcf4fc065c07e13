import httpx

from tests.support.lines import EventFile
from tests.support.signing import token


async def test_a_valid_token_is_verified(client: httpx.AsyncClient, events: EventFile) -> None:
    response = await client.delete("/v1/auth/session", headers={"Authorization": f"Bearer {token()}"})
    assert response.status_code == 200
    event = events.one()
    assert response.json() == {
        "success": True,
        "message": "Logged out successfully",
        "event_id": event["event_id"],
        "recorded": True,
    }
    assert (event["auth"], event["reason"]) == ("verified", None)
    assert (event["user_id"], event["session_id"]) == ("user_2xyzUVW", "sess_2abcDEF")

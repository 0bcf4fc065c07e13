"""``DELETE /v1/auth/session``: always 200, and one honest line."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from asgi_lifespan import LifespanManager
from starlette.types import Message

from service import app as app_module
from service.app import create_app
from service.events.flood import FloodControl
from service.settings import Settings
from tests.conftest import OpenClient
from tests.endpoints.parts import SECRET_ERROR, Noting, assert_said, bearer
from tests.support.clerk import expired_cookies
from tests.support.lines import EventFile
from tests.support.signing import ORIGIN, claims, private_key, token

SESSION = "/v1/auth/session"
NOBODY = dict.fromkeys(
    ("user_id", "session_id", "org_id", "actor_id", "initiated_by", "authorized_party", "token_issued_at")
)
COOKIE_EXPIRED = expired_cookies("__session")


def expired() -> str:
    return token(claims(now=time.time() - 3600))


# --- Who it was ------------------------------------------------------------------------------------------------------


async def test_a_valid_token_is_verified(client: httpx.AsyncClient, events: EventFile) -> None:
    issued = int(time.time())
    sent = token(claims(now=issued, o={"id": "org_2abc", "rol": "admin"}))
    response = await client.delete(SESSION, headers=bearer(sent) | {"Cookie": f"__session={sent}"})
    line = events.path.read_text(encoding="utf-8")
    event = events.one()
    assert response.status_code == 200
    assert response.json() == {
        "success": True,
        "message": "Logged out successfully",
        "event_id": event["event_id"],
        "recorded": True,
    }
    expected = {
        "auth": "verified",
        "reason": None,
        "user_id": "user_2xyzUVW",
        "session_id": "sess_2abcDEF",
        "org_id": "org_2abc",
        "authorized_party": ORIGIN,
        "token_issued_at": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(issued))}.000000Z",
    }
    assert event | expected == event
    assert not [part for part in sent.split(".") if part in line]


@pytest.mark.parametrize(
    ("act", "actor_id", "initiated_by"),
    [
        (None, None, "user"),
        ({"sub": "user_2support"}, "user_2support", "admin"),
        ({"sub": "a b", "type": "agent"}, None, "agent"),
        ("user_2support", None, "admin"),
    ],
    ids=repr,
)
async def test_an_event_never_blames_the_user_where_there_is_an_actor(
    client: httpx.AsyncClient, events: EventFile, act: Any, actor_id: str | None, initiated_by: str
) -> None:
    await client.delete(SESSION, headers=bearer(token(claims(act=act))))
    event = events.one()
    assert (event["auth"], event["actor_id"], event["initiated_by"]) == ("verified", actor_id, initiated_by)


async def test_an_azp_that_is_no_origin_is_not_recorded(open_client: OpenClient, events: EventFile) -> None:
    """Those of native apps, of the backend, and of a navigation to a page have none: see ``test_session.py``."""
    async with open_client(clerk_authorized_parties=()) as client:
        await client.delete(SESSION, headers=bearer(token(claims(azp="a b"))))
    event = events.one()
    assert (event["auth"], event["user_id"], event["authorized_party"]) == ("verified", "user_2xyzUVW", None)


async def test_what_proves_nothing_is_recorded_without_identity(client: httpx.AsyncClient, events: EventFile) -> None:
    """``tests/clerk/test_bad_input.py`` has all that can be wrong. The header goes before the cookies."""
    forged = bearer(token(key=private_key("forger")))
    response = await client.delete(SESSION, headers=forged | {"Cookie": f"__session={token()}"})
    assert (response.status_code, response.json()["recorded"]) == (200, True)
    event = events.one()
    assert (event["auth"], event["reason"]) == ("rejected", "token-invalid-signature")
    assert {key: event[key] for key in NOBODY} == NOBODY
    assert event["dedupe_key"] == event["event_id"] == response.json()["event_id"]


async def test_repeated_calls_share_the_dedupe_key(client: httpx.AsyncClient, events: EventFile) -> None:
    answers = [(await client.delete(SESSION, headers=bearer(of))).json() for of in (token(), expired())]
    first, second = events.new()
    assert first["dedupe_key"] == second["dedupe_key"] == "user_logout:sess_2abcDEF"
    assert [first["event_id"], second["event_id"]] == [answer["event_id"] for answer in answers]
    assert first["event_id"] != second["event_id"]


# --- The response ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "expired"),
    [
        ({"Cookie": "__session=a; __session=; __session_1a2B=b; theme=dark"}, ["__session", "__session_1a2B"]),
        ({"Cookie": "theme=dark; __client_uat=1"}, []),
        (bearer("a.b.c"), []),
        (bearer("a.b.c") | {"Cookie": "__session="}, ["__session"]),
    ],
    ids=["some", "others", "a header alone", "beside a header"],
)
async def test_each_session_cookie_is_expired_once(
    client: httpx.AsyncClient, headers: dict[str, str], expired: Sequence[str]
) -> None:
    response = await client.delete(SESSION, headers=headers)
    assert response.headers.get_list("set-cookie") == expired_cookies(*expired)
    assert "clear-site-data" not in response.headers  # it stalls Chrome, and does not reach the frontend's origin


async def test_other_applications_cookies_stay_where_ours_is_known(open_client: OpenClient) -> None:
    cookie = {"Cookie": f"__session=a; __session_zzzzzzzz=b; __session_l2OS3d9k={token()}"}
    async with open_client(clerk_publishable_key="pk_test_Y2xlcmsuZXhhbXBsZS5jb20k") as client:
        for method, path, count in (("DELETE", SESSION, 4), ("GET", SESSION, 0)):
            response = await client.request(method, path, headers=cookie)
            assert "zzzzzzzz" not in str(response.headers)
            assert response.headers.get("set-cookie", "").count("__session") == count


# --- What is around the request --------------------------------------------------------------------------------------


async def test_an_event_tells_of_its_request_what_can_be_told(client: httpx.AsyncClient, events: EventFile) -> None:
    trace = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "User-Agent": "curl"}
    response = await client.delete(SESSION, headers={"X-Request-ID": "req-42", "Origin": ORIGIN} | trace)
    event = events.one()
    assert (event["request_id"], response.headers["x-request-id"]) == ("req-42", "req-42")
    assert (event["trace_id"], event["origin"]) == ("4bf92f3577b34da6a3ce929d0e0e4736", ORIGIN)
    assert {"client_ip", "user_agent"}.isdisjoint(event)
    for origin in ("https://evil.example.com", "null"):
        response = await client.delete(SESSION, headers={"X-Request-ID": "two words", "Origin": origin})
        event = events.one()
        assert (event["request_id"], event["origin"]) == (response.headers["x-request-id"], None)


async def test_network_and_user_agent_are_recorded_on_demand(open_client: OpenClient, events: EventFile) -> None:
    async with open_client(event_client_ip=True, event_user_agent=True) as client:
        await client.delete(SESSION, headers=[(b"User-Agent", b"curl/8 \xff")])
    event = events.one()
    assert (event["client_ip"], event["user_agent"]) == ("203.0.113.0", "curl/8 ?")


# --- Flood control ---------------------------------------------------------------------------------------------------


@pytest.fixture
def no_time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is, flood control lets nobody have more, and no window ends."""
    monkeypatch.setattr(app_module, "FloodControl", partial(FloodControl, clock=lambda: 0, window=3600))


@pytest.mark.usefixtures("no_time_passes")
async def test_a_flood_is_answered_200_and_counted_in_one_summary(open_client: OpenClient, events: EventFile) -> None:
    """The answer to a suppressed call names the summary that counts it."""
    async with open_client(flood_per_second=1) as client:
        responses = [await client.delete(SESSION, headers={"Cookie": "__session=a.b.c"}) for _ in range(100)]
    assert {response.status_code for response in responses} == {200}
    assert responses[-1].headers.get_list("set-cookie") == COOKIE_EXPIRED
    answers = [response.json() for response in responses]
    *lines, summary = events.new()
    assert {line["event"] for line in lines} == {"user_logout"}
    assert (summary["event"], summary["count"]) == ("user_logout_suppressed", 100 - len(lines))
    assert [a["event_id"] for a in answers if a["recorded"]] == [line["event_id"] for line in lines]
    assert [a["event_id"] for a in answers if not a["recorded"]] == [summary["event_id"]] * summary["count"]


@pytest.mark.usefixtures("no_time_passes")
async def test_one_clients_flood_leaves_room_for_another(settings: Callable[..., Settings], events: EventFile) -> None:
    async with LifespanManager(create_app(settings(flood_per_second=1))) as manager:

        async def logout(host: str, headers: dict[str, str] | None = None) -> bool:
            transport = httpx.ASGITransport(manager.app, client=(host, 1))
            async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
                recorded: bool = (await client.delete(SESSION, headers=headers)).json()["recorded"]
                return recorded

        flood = [await logout("203.0.113.77") for _ in range(100)]
        assert not flood[-1]
        assert await logout("198.51.100.1")
        assert await logout("203.0.113.77", bearer(token())), "who proves something is not held up by others"
    assert events.new()[-1]["event"] == "user_logout_suppressed"


@pytest.mark.usefixtures("no_time_passes")
async def test_each_session_has_its_lines_and_is_signed_out_without(open_client: OpenClient, events: EventFile) -> None:
    async with open_client(flood_per_session=1, flood_per_second=1) as client:
        for number in range(50):
            sent = bearer(token(claims(sid=f"sess_{number}")))
            assert (await client.delete(SESSION, headers=sent)).json()["recorded"]
        assert len(events.new()) == 50
        await client.delete(SESSION, headers=bearer(expired()))  # takes the token, and signs nobody out
        assert (await client.get(SESSION, headers=bearer(token()))).status_code == 200
        assert not (await client.delete(SESSION, headers=bearer(token()))).json()["recorded"]
        assert (await client.get(SESSION, headers=bearer(token()))).json()["reason"] == "session-revoked"
        assert 'clerk_logout_calls_suppressed_total{auth="verified"} 1.0' in (await client.get("/metrics")).text


# --- What is promised when things fail -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("noting", "recorded", "said"),
    [
        pytest.param(Noting(), True, None, id="nothing"),
        pytest.param(Noting(outcome=False), False, None, id="the log"),
        pytest.param(Noting(SECRET_ERROR), False, "a logout was not recorded", id="the recorder"),
        pytest.param(Noting(store_error=SECRET_ERROR), True, "not put on the revocation list", id="the list"),
    ],
)
async def test_a_session_is_revoked_after_its_event_whatever_fails(
    open_client: OpenClient, noting: Noting, recorded: bool, said: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """For as long as such a token can pass."""
    of_an_hour = claims()
    sent = token(of_an_hour | {"exp": of_an_hour["iat"] + 3600})
    async with open_client(resources=noting.parts()) as client:
        caplog.clear()
        response = await client.delete(SESSION, headers={"Cookie": f"__session={sent}"})
    assert (noting.done, noting.seconds) == (["user_logout", {"sess_2abcDEF"}], 3610)
    answer = response.json()
    assert (response.status_code, answer["success"], answer["recorded"]) == (200, True, recorded)
    assert answer["event_id"]
    assert response.headers.get_list("set-cookie") == COOKIE_EXPIRED
    assert_said(caplog, said)
    assert not [part for part in sent.split(".") if part in caplog.text]


async def test_a_verifier_that_breaks_changes_nothing_either(
    open_client: OpenClient, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_client(resources={"logout_verifier": object()}) as client:
        response = await client.delete(SESSION, headers={"Cookie": "__session=a.b.c"})
    assert (response.status_code, response.json()["recorded"]) == (200, False)
    assert response.headers.get_list("set-cookie") == COOKIE_EXPIRED
    assert "a logout was not recorded: AttributeError in session.py:" in caplog.text


async def test_without_log_and_spool_it_is_200_and_signs_out(
    open_client: OpenClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A spool in a place that is no directory stands for one on the same full disk."""
    (tmp_path / "file").touch()
    async with open_client(event_log="/dev/full", event_spool_dir=str(tmp_path / "file")) as client:
        answers = [(await client.delete(SESSION, headers=bearer(token()))) for _ in range(3)]
        used = [(await client.get(SESSION, headers=bearer(token()))) for _ in range(2)]
        assert "clerk_logout_events_total{" not in (await client.get("/metrics")).text
    assert [(answer.status_code, answer.json()["recorded"]) for answer in answers] == [(200, False)] * 3
    assert sum("events are being lost" in message for message in caplog.messages) == 1
    assert {(answer.status_code, answer.json()["reason"]) for answer in used} == {(401, "session-revoked")}


async def test_the_line_is_written_before_the_answer_is_sent(
    settings: Callable[..., Settings], events: EventFile
) -> None:
    written: list[tuple[str, int]] = []

    async def receive() -> Message:
        raise AssertionError("the body is not read")

    async def send(message: Message) -> None:
        written.append((message["type"], len(events.new())))

    scope: dict[str, Any] = {"type": "http", "method": "DELETE", "path": SESSION, "headers": [], "query_string": b""}
    async with LifespanManager(create_app(settings())) as manager:
        await manager.app(scope, receive, send)
    assert written == [("http.response.start", 1), ("http.response.body", 0)]

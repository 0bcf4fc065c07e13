"""``DELETE /v1/auth/session``: always 200, and one honest line."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from asgi_lifespan import LifespanManager
from starlette.types import Message

from service.app import create_app
from service.clerk.verdict import Verdict
from service.events.types import Event
from service.revocations.revocation_list import MemoryStore, RevocationList
from service.settings import Settings
from tests.conftest import OpenClient
from tests.support.clerk import expired_cookies
from tests.support.lines import EventFile, read_lines
from tests.support.signing import ORIGIN, claims, private_key, token
from tests.support.spools import contents

SESSION = "/v1/auth/session"
NOBODY = dict.fromkeys(
    ("user_id", "session_id", "org_id", "actor_id", "initiated_by", "authorized_party", "token_issued_at")
)
COOKIE_EXPIRED = expired_cookies("__session")


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def expired() -> str:
    return token(claims(now=time.time() - 3600))


# --- Who it was ------------------------------------------------------------------------------------------------------


async def test_a_valid_token_is_verified(client: httpx.AsyncClient, events: EventFile) -> None:
    response = await client.delete(SESSION, headers=bearer(token()))
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


async def test_an_expired_token_still_says_who_it_was(client: httpx.AsyncClient, events: EventFile) -> None:
    await client.delete(SESSION, headers=bearer(expired()))
    event = events.one()
    assert (event["auth"], event["reason"]) == ("expired", "token-expired")
    assert (event["user_id"], event["session_id"]) == ("user_2xyzUVW", "sess_2abcDEF")


async def test_the_organisation_is_recorded(client: httpx.AsyncClient, events: EventFile) -> None:
    await client.delete(SESSION, headers=bearer(token(claims(o={"id": "org_2abc", "rol": "admin"}))))
    assert events.one()["org_id"] == "org_2abc"


@pytest.mark.parametrize(
    ("act", "actor_id", "initiated_by"),
    [
        (None, None, "user"),
        ({"sub": "user_2support"}, "user_2support", "admin"),
        ({"sub": "agent_2", "type": "agent"}, "agent_2", "agent"),
        ({"sub": "a b"}, None, "admin"),
        ({"type": "agent"}, None, "agent"),
        ({"sub": "user_2support", "type": ["agent"]}, "user_2support", "admin"),
        ({}, None, "admin"),
        ("user_2support", None, "admin"),
        (["user_2support"], None, "admin"),
        ("", None, "admin"),
        (0, None, "admin"),
        (False, None, "admin"),
    ],
    ids=repr,
)
async def test_an_event_never_blames_the_user_where_there_is_an_actor(
    client: httpx.AsyncClient, events: EventFile, act: Any, actor_id: str | None, initiated_by: str
) -> None:
    await client.delete(SESSION, headers=bearer(token(claims(act=act))))
    event = events.one()
    assert (event["auth"], event["actor_id"], event["initiated_by"]) == ("verified", actor_id, initiated_by)


@pytest.mark.parametrize("required", [True, False])
async def test_a_token_without_azp_is_recorded_with_its_user(
    open_client: OpenClient, events: EventFile, required: bool
) -> None:
    """Those of native apps, of the backend, and of a navigation to a page have none."""
    async with open_client(clerk_azp_required=required) as client:
        await client.delete(SESSION, headers=bearer(token(claims(azp=None))))
    event = events.one()
    assert (event["auth"], event["user_id"], event["authorized_party"]) == ("verified", "user_2xyzUVW", None)


@pytest.mark.parametrize("age", [0, 3600])
async def test_whose_frontend_and_how_old_the_token_is_are_recorded(
    client: httpx.AsyncClient, events: EventFile, age: int
) -> None:
    issued = int(time.time()) - age
    await client.delete(SESSION, headers=bearer(token(claims(now=issued))))
    event = events.one()
    assert event["authorized_party"] == ORIGIN
    assert event["token_issued_at"] == f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(issued))}.000000Z"


@pytest.mark.parametrize(
    "azp", ["a b", "x" * 257, "", 5, ["https://a.example"], {}, "a\n"], ids=lambda azp: repr(azp)[:20]
)
async def test_an_azp_that_cannot_be_recorded_is_left_out_where_any_is_allowed(
    open_client: OpenClient, events: EventFile, azp: Any
) -> None:
    async with open_client(clerk_authorized_parties=()) as client:
        await client.delete(SESSION, headers=bearer(token(claims(azp=azp))))
    event = events.one()
    assert (event["auth"], event["authorized_party"]) == ("verified", None)


@pytest.mark.parametrize(
    ("headers", "auth", "reason"),
    [
        pytest.param({}, "absent", "session-token-missing", id="nothing sent"),
        pytest.param({"Authorization": "Basic dTpw"}, "absent", "session-token-missing", id="another scheme"),
        pytest.param({"Cookie": "theme=dark; __session="}, "absent", "session-token-missing", id="no token in cookies"),
        pytest.param(bearer("garbage"), "rejected", "token-invalid", id="garbage"),
        pytest.param(bearer("x" * 8193), "rejected", "token-too-large", id="huge"),
        pytest.param(bearer("ak_machine"), "rejected", "token-type-not-supported", id="an API key"),
        pytest.param(bearer(token(key=private_key("forger"))), "rejected", "token-invalid-signature", id="forged"),
        pytest.param(
            bearer(token(claims(azp="https://evil.example.com"))),
            "rejected",
            "token-invalid-authorized-parties",
            id="another origin's",
        ),
    ],
)
async def test_what_proves_nothing_is_recorded_without_identity(
    client: httpx.AsyncClient, events: EventFile, headers: dict[str, str], auth: str, reason: str
) -> None:
    response = await client.delete(SESSION, headers=headers)
    assert (response.status_code, response.json()["recorded"]) == (200, True)
    event = events.one()
    assert (event["auth"], event["reason"]) == (auth, reason)
    assert {key: event[key] for key in NOBODY} == NOBODY
    assert event["dedupe_key"] == event["event_id"] == response.json()["event_id"]


async def test_a_cookie_is_as_good_as_a_header(client: httpx.AsyncClient, events: EventFile) -> None:
    await client.delete(SESSION, headers={"Cookie": f'a,b="1; __session_1a2B3c4D={token()}'})
    assert events.one()["auth"] == "verified"


async def test_the_header_goes_before_the_cookie(client: httpx.AsyncClient, events: EventFile) -> None:
    await client.delete(SESSION, headers=bearer("garbage") | {"Cookie": f"__session={token()}"})
    assert events.one()["auth"] == "rejected"


@pytest.mark.parametrize("order", [1, -1], ids=["bad one first", "good one first"])
async def test_of_two_headers_the_better_one_counts(client: httpx.AsyncClient, events: EventFile, order: int) -> None:
    headers = [("Authorization", "Bearer garbage"), ("Authorization", f"Bearer {token()}")][::order]
    assert (await client.delete(SESSION, headers=headers)).status_code == 200
    assert events.one()["auth"] == "verified"


async def test_repeated_calls_share_the_dedupe_key(client: httpx.AsyncClient, events: EventFile) -> None:
    answers = [(await client.delete(SESSION, headers=bearer(of))).json() for of in (token(), expired())]
    first, second = events.new()
    assert first["dedupe_key"] == second["dedupe_key"] == "user_logout:sess_2abcDEF"
    assert [first["event_id"], second["event_id"]] == [answer["event_id"] for answer in answers]
    assert first["event_id"] != second["event_id"]


async def test_a_hundred_logouts_at_once_are_a_hundred_lines(client: httpx.AsyncClient, events: EventFile) -> None:
    answers = await asyncio.gather(*(client.delete(SESSION) for _ in range(100)))
    assert {answer.json()["event_id"] for answer in answers} == {event["event_id"] for event in events.new()}


async def test_the_token_is_nowhere_in_the_line(client: httpx.AsyncClient, events: EventFile) -> None:
    sent = token()
    await client.delete(SESSION, headers=bearer(sent) | {"Cookie": f"__session={sent}"})
    line = events.path.read_text(encoding="utf-8")
    assert not [part for part in sent.split(".") if part in line]


# --- The response ----------------------------------------------------------------------------------------------------


async def test_the_browsers_storage_is_left_alone(client: httpx.AsyncClient) -> None:
    """``Clear-Site-Data`` stalls Chrome and does not reach the frontend's origin."""
    assert "clear-site-data" not in (await client.delete(SESSION)).headers


@pytest.mark.parametrize(
    ("headers", "expired"),
    [
        pytest.param({"Cookie": "__session=a.b.c"}, ["__session"], id="one"),
        pytest.param(
            {"Cookie": "__session=a; __session_1a2B=b; theme=dark"}, ["__session", "__session_1a2B"], id="with a suffix"
        ),
        pytest.param({"Cookie": "__session=a; __session=b"}, ["__session"], id="one name twice"),
        pytest.param({"Cookie": "__session="}, ["__session"], id="an empty one"),
        pytest.param({"Cookie": "theme=dark; __client_uat=1"}, [], id="others"),
        pytest.param(bearer("a.b.c"), [], id="a header alone"),
        pytest.param(bearer("a.b.c") | {"Cookie": "__session=a"}, ["__session"], id="beside a header"),
    ],
)
async def test_each_session_cookie_is_expired_once(
    client: httpx.AsyncClient, headers: dict[str, str], expired: Sequence[str]
) -> None:
    response = await client.delete(SESSION, headers=headers)
    assert response.headers.get_list("set-cookie") == expired_cookies(*expired)


async def test_other_applications_cookies_stay_where_ours_is_known(open_client: OpenClient) -> None:
    cookie = {"Cookie": f"__session=a; __session_zzzzzzzz=b; __session_l2OS3d9k={token()}"}
    async with open_client(clerk_publishable_key="pk_test_Y2xlcmsuZXhhbXBsZS5jb20k") as client:
        for method, path, count in (("DELETE", SESSION, 4), ("GET", SESSION, 0)):
            response = await client.request(method, path, headers=cookie)
            assert "zzzzzzzz" not in str(response.headers)
            assert response.headers.get("set-cookie", "").count("__session") == count


# --- What is around the request --------------------------------------------------------------------------------------


async def test_the_request_id_is_in_response_and_line(client: httpx.AsyncClient, events: EventFile) -> None:
    for sent, is_kept in (("req-42", True), ("two words", False)):
        response = await client.delete(SESSION, headers={"X-Request-ID": sent})
        recorded = events.one()["request_id"]
        assert response.headers["x-request-id"] == recorded
        assert (recorded == sent) is is_kept


async def test_the_callers_trace_id_is_recorded(client: httpx.AsyncClient, events: EventFile) -> None:
    await client.delete(SESSION, headers={"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"})
    assert events.one()["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"


async def test_only_an_allowed_origin_is_recorded(client: httpx.AsyncClient, events: EventFile) -> None:
    for origin in (ORIGIN, "https://evil.example.com", "null"):
        await client.delete(SESSION, headers={"Origin": origin})
    assert [event["origin"] for event in events.new()] == [ORIGIN, None, None]


async def test_address_and_user_agent_are_off_by_default(client: httpx.AsyncClient, events: EventFile) -> None:
    await client.delete(SESSION, headers={"User-Agent": "curl"})
    assert {"client_ip", "user_agent"}.isdisjoint(events.one())


async def test_network_and_user_agent_are_recorded_on_demand(open_client: OpenClient, events: EventFile) -> None:
    async with open_client(event_client_ip=True, event_user_agent=True) as client:
        await client.delete(SESSION, headers=[(b"User-Agent", b"curl/8 \xff")])
    event = events.one()
    assert (event["client_ip"], event["user_agent"]) == ("203.0.113.0", "curl/8 ?")


# --- Flood control ---------------------------------------------------------------------------------------------------


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


# --- What is promised when things fail -------------------------------------------------------------------------------


class FakeRecorder:
    """Says what it was told to say, or raises it."""

    def __init__(self, outcome: bool | Exception) -> None:
        self._outcome = outcome

    async def record(self, event: Event) -> bool:
        del event
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


class BrokenVerifier:
    """Breaks its promise never to raise."""

    async def verify(self, tokens: Sequence[bytes]) -> Verdict:
        raise ValueError(tokens)


FAILURES = [
    pytest.param({"recorder": FakeRecorder(outcome=False)}, id="the log takes nothing"),
    pytest.param({"recorder": FakeRecorder(ValueError("eyJ.secret"))}, id="the recorder breaks"),
    pytest.param({"logout_verifier": BrokenVerifier()}, id="the verifier breaks"),
]


@pytest.mark.parametrize("parts", FAILURES)
async def test_a_logout_that_is_not_recorded_is_200_and_says_so(
    open_client: OpenClient, parts: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    sent = token()
    async with open_client(resources=parts) as client:
        caplog.clear()
        response = await client.delete(SESSION, headers={"Cookie": f"__session={sent}"})
    assert response.status_code == 200
    answer = response.json()
    assert answer["event_id"]
    assert (answer["success"], answer["recorded"]) == (True, False)
    assert response.headers.get_list("set-cookie") == COOKIE_EXPIRED
    said = [record.message for record in caplog.records if record.levelno >= logging.ERROR]
    assert all(message.startswith("a logout was not recorded: ValueError in test_logout.py:") for message in said)
    assert len(said) == (parts != FAILURES[0].values[0])
    assert not [part for part in [*sent.split("."), "secret"] if part in caplog.text]


class Noting(MemoryStore):
    """A recorder and a store that note what is done, in which order; as a store it breaks."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[str] = []

    async def record(self, event: Event) -> bool:
        await asyncio.sleep(0)
        self.done.append(event.name)
        return True

    async def add(self, session_ids: Any, **_: Any) -> None:
        self.done += session_ids
        raise ValueError("eyJ.secret")


async def test_a_session_is_revoked_after_it_was_recorded(
    open_client: OpenClient, caplog: pytest.LogCaptureFixture
) -> None:
    """And a list that breaks changes nothing about the answer."""
    noting = Noting()
    async with open_client(resources={"recorder": noting, "revocations": RevocationList(noting)}) as client:
        response = await client.delete(SESSION, headers={"Cookie": f"__session={token()}"})
    assert noting.done == ["user_logout", "sess_2abcDEF"]
    assert (response.status_code, response.json()["recorded"]) == (200, True)
    assert response.headers.get_list("set-cookie") == COOKIE_EXPIRED
    assert "was not put on the revocation list: ValueError" in caplog.text
    assert "eyJ.secret" not in caplog.text


async def test_a_token_that_is_not_verified_revokes_nothing(open_client: OpenClient) -> None:
    noting = Noting()
    async with open_client(resources={"recorder": noting, "revocations": RevocationList(noting)}) as client:
        for headers in ({}, bearer("a.b.c"), bearer(expired())):
            await client.delete(SESSION, headers=headers)
    assert noting.done == ["user_logout"] * 3


async def test_events_of_a_full_disk_wait_in_the_spool(open_client: OpenClient, tmp_path: Path) -> None:
    async with open_client(event_log="/dev/full") as client:
        answers = [(await client.delete(SESSION)).json() for _ in range(3)]
    assert [answer["recorded"] for answer in answers] == [True] * 3
    waiting = read_lines(b"".join(contents(tmp_path / "spool")).splitlines(keepends=True))
    assert [event["event_id"] for event in waiting] == [answer["event_id"] for answer in answers]


async def test_without_log_and_spool_it_is_200_and_not_recorded(
    open_client: OpenClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A spool in a place that is no directory stands for one on the same full disk."""
    (tmp_path / "file").touch()
    async with open_client(event_log="/dev/full", event_spool_dir=str(tmp_path / "file")) as client:
        answers = [(await client.delete(SESSION)) for _ in range(3)]
    assert [(answer.status_code, answer.json()["recorded"]) for answer in answers] == [(200, False)] * 3
    assert sum("events are being lost" in message for message in caplog.messages) == 1


async def test_hostile_requests_leave_nothing_in_the_diagnostics(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    caplog.clear()
    for value in (b"Bearer \xff.\xff.\xff", b"Bearer e30.e30.e30", b"Bearer " + b"." * 9000, b"Bearer \x00.\r.\x80"):
        response = await client.delete(SESSION, headers=[(b"Authorization", value), (b"Cookie", b"__session=\xff")])
        assert response.status_code == 200
    assert [record.message for record in caplog.records if record.name.startswith("service")] == []


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

"""``POST /v1/webhooks/clerk``, through the app and through a real server."""

import asyncio
import socket
import struct
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from service.endpoints.webhook import MAX_BODY, MAX_LARGE_BODIES, SMALL_BODY
from tests.conftest import OpenClient
from tests.endpoints.parts import SECRET_ERROR, Noting, assert_said
from tests.support.lines import EventFile
from tests.support.processes import TIMEOUT, serve
from tests.support.webhooks import (
    ENDED_AT,
    MAIL,
    MESSAGE_ID,
    NAME,
    OTHER_SECRET,
    SECRET,
    encoded,
    session_event,
    signed,
)

PATH = "/v1/webhooks/clerk"
BODY = encoded(session_event())
NO_ID = encoded(session_event(id=None))


@pytest.fixture
async def client(open_client: OpenClient) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service that knows Clerk's signing secret."""
    async with open_client(clerk_webhook_signing_secret=SECRET) as client:
        yield client


async def post(client: httpx.AsyncClient, body: bytes = BODY, **signing: Any) -> httpx.Response:
    return await client.post(PATH, content=body, headers=signed(body, **signing))


async def counted(client: httpx.AsyncClient) -> dict[str, float]:
    """How many webhooks had which result."""
    lines = (await client.get("/metrics")).text.splitlines()
    found = [line.split() for line in lines if line.startswith("clerk_logout_webhooks_total{")]
    return {name.split('"')[1]: float(value) for name, value in found}


def of(result: str, count: int = 1) -> dict[str, int]:
    return {"recorded": 0, "ignored": 0, "refused": 0, "failed": 0} | {result: count}


# --- What is recorded ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cause", "actor", "initiated_by"),
    [("ended", None, "user"), ("revoked", None, None), ("removed", {"sub": "user_2support"}, "admin")],
)
async def test_the_end_of_a_session_is_an_event(
    client: httpx.AsyncClient, events: EventFile, cause: str, actor: Any, initiated_by: str | None
) -> None:
    """Its id is that of Clerk's message: a redelivery is the same event in any process."""
    body = encoded(session_event(f"session.{cause}", actor=actor, last_active_organization_id="org_2abc"))
    trace = {"X-Request-ID": "r-1", "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
    answer = await client.post(PATH, content=body, headers=signed(body) | trace)
    assert (answer.status_code, answer.content) == (204, b"")
    assert not [personal for personal in (NAME, MAIL, "203.0.113", "Mozilla") if personal in events.path.read_text()]
    event = events.one()
    assert event | {"timestamp": "", "service_version": ""} == {
        "event": "session_ended",
        "schema_version": 1,
        "event_id": str(uuid.uuid5(uuid.NAMESPACE_URL, MESSAGE_ID)),
        "dedupe_key": "session_ended:sess_2abcDEF",
        "timestamp": "",
        "auth": "verified",
        "reason": None,
        "user_id": "user_2xyzUVW",
        "session_id": "sess_2abcDEF",
        "org_id": "org_2abc",
        "actor_id": actor["sub"] if actor else None,
        "initiated_by": initiated_by,
        "source": "clerk_webhook",
        "request_id": "r-1",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "origin": None,
        "cause": cause,
        "ended_at": "2024-05-28T08:00:00.123000Z",
        "service": "clerk-logout",
        "service_version": "",
    }
    assert await counted(client) == of("recorded")


async def test_several_secrets_are_separated_by_commas(open_client: OpenClient) -> None:
    async with open_client(clerk_webhook_signing_secret=f" {OTHER_SECRET} , {SECRET}\n") as client:
        answers = [await post(client, secret=secret) for secret in (SECRET, OTHER_SECRET)]
    assert [answer.status_code for answer in answers] == [204, 204]


@pytest.mark.parametrize(
    ("said", "recorded"),
    [
        ({"client_ip": "203.0.113.77", "user_agent": "é" + "x" * 300}, ("203.0.113.0", "?" + "x" * 255)),
        ({"client_ip": "unknown, 10.0.0.1", "user_agent": 1}, (None, None)),
        (None, (None, None)),
    ],
    ids=["cut", "odd", "nothing"],
)
async def test_network_and_user_agent_are_those_that_clerk_tells(
    open_client: OpenClient, events: EventFile, said: Any, recorded: tuple[str | None, str | None]
) -> None:
    body = encoded(session_event() | {"event_attributes": said and {"http_request": said}})
    asked = {"event_client_ip": True, "event_user_agent": True}
    async with open_client(clerk_webhook_signing_secret=SECRET, peer=("198.51.100.1", 1), **asked) as client:
        assert (await post(client, body)).status_code == 204
    event = events.one()
    assert (event.get("client_ip"), event.get("user_agent")) == recorded


async def test_another_type_is_taken_and_is_no_event(client: httpx.AsyncClient, events: EventFile) -> None:
    answer = await post(client, encoded(session_event("session.created")))
    assert (answer.status_code, answer.content) == (204, b"")
    assert events.new() == []
    assert await counted(client) == of("ignored")


# --- What is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sign", "reason"),
    [
        (lambda: (BODY, {}), "the header svix-id is missing"),
        (lambda: (BODY, signed(BODY, age=320)), "more than 5 minutes old"),
        (lambda: (BODY, signed(BODY, secret=OTHER_SECRET)), "no signature matches"),
        (lambda: (NO_ID, signed(NO_ID)), "data.id is not 1-128 visible ASCII characters"),
    ],
    ids=["nothing", "stale", "wrong secret", "no session"],
)
async def test_what_is_not_clerks_is_400_with_a_reason_logged_once(
    client: httpx.AsyncClient,
    events: EventFile,
    caplog: pytest.LogCaptureFixture,
    sign: Callable[[], tuple[bytes, dict[str, str]]],
    reason: str,
) -> None:
    """``tests/clerk/test_webhook.py`` has all that can be wrong."""
    body, headers = sign()
    for _ in range(2):
        answer = await client.post(PATH, content=body, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/json")
    assert answer.json()["success"] is False
    assert reason in answer.json()["message"]
    assert events.new() == []
    assert await counted(client) == of("refused", 2)
    assert caplog.messages == [f"a webhook was refused: {answer.json()['message']}"]
    assert [text for text in ("secret ", "sess_", "whsec_") if text in answer.text + caplog.text] == []


async def unread() -> AsyncIterator[bytes]:
    yield b""
    raise AssertionError("the body was read")


@pytest.mark.parametrize("zeros", [0, 5000])
async def test_a_body_that_says_it_is_too_large_is_not_read(client: httpx.AsyncClient, zeros: int) -> None:
    """The parser lets any number of zeros pass; Python's ``int`` does not."""
    headers = signed(BODY) | {"content-length": "0" * zeros + str(MAX_BODY + 1)}
    assert (await client.post(PATH, content=unread(), headers=headers)).status_code == 413


async def test_a_body_without_a_length_is_read_up_to_its_limit(client: httpx.AsyncClient) -> None:
    """The largest is taken."""
    pieces = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal pieces
        while True:
            pieces += 1
            yield b" " * 65_536

    assert (await client.post(PATH, content=endless(), headers=signed(BODY))).status_code == 413
    assert pieces == 5  # four are MAX_BODY
    assert (await post(client, BODY.ljust(MAX_BODY))).status_code == 204


@pytest.mark.parametrize(
    ("secret", "status", "message"),
    [(SECRET, 400, "svix-id"), ((), 501, "set CLERK_WEBHOOK_SIGNING_SECRET")],
)
async def test_what_cannot_be_checked_is_not_read(
    open_client: OpenClient, secret: Any, status: int, message: str
) -> None:
    async with open_client(clerk_webhook_signing_secret=secret) as client:
        answer = await client.post(PATH, content=unread())
    assert answer.status_code == status
    assert message in answer.text


# --- What fails behind it --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("noting", "status", "said"),
    [
        (Noting(), 204, None),
        (Noting(outcome=False), 503, None),
        (Noting(SECRET_ERROR), 503, "session_ended was not recorded"),
        (Noting(store_error=SECRET_ERROR), 204, "not put on the revocation list"),
    ],
    ids=["nothing", "the log", "the recorder", "the list"],
)
async def test_the_session_is_revoked_after_the_event_whatever_fails(
    open_client: OpenClient, caplog: pytest.LogCaptureFixture, noting: Noting, status: int, said: str | None
) -> None:
    """Only what was not recorded is to be delivered again."""
    resources = noting.parts()
    async with open_client(clerk_webhook_signing_secret=SECRET, resources=resources) as client:
        answer = await post(client)
        assert await counted(client) == of("recorded" if status == 204 else "failed")
    assert answer.status_code == status
    if status == 503:
        assert answer.json() == {"success": False, "message": "the event was not recorded; deliver it again"}
    assert noting.done == ["session_ended", {"sess_2abcDEF"}]
    assert noting.at == ENDED_AT / 1000
    assert_said(caplog, said)


async def test_large_bodies_are_read_32_at_a_time(open_client: OpenClient) -> None:
    """Nobody has signed them yet: strangers must not fill the memory with them."""
    waiting, all_wait, go_on = 0, asyncio.Event(), asyncio.Event()

    async def large_body() -> AsyncIterator[bytes]:
        nonlocal waiting
        yield b" " * (SMALL_BODY + 1)
        waiting += 1
        if waiting == MAX_LARGE_BODIES:
            all_wait.set()
        await go_on.wait()
        yield b" "

    async with open_client(clerk_webhook_signing_secret=SECRET) as client:

        async def status(body: bytes | AsyncIterator[bytes]) -> int:
            return (await client.post(PATH, content=body, headers=signed(BODY))).status_code

        read = [asyncio.create_task(status(large_body())) for _ in range(MAX_LARGE_BODIES)]
        await all_wait.wait()
        assert await status(large_body()) == 503
        assert await status(BODY) == 204
        go_on.set()
        assert [await task for task in read] == [400] * MAX_LARGE_BODIES
        assert await status(large_body()) == 400


def test_a_reset_in_the_middle_is_one_line_in_the_log() -> None:
    with serve(settings={"CLERK_WEBHOOK_SIGNING_SECRET": SECRET}) as server:
        server.wait_for("Application startup complete")
        with socket.create_connection(server.address, TIMEOUT) as sender:
            headers = signed(BODY) | {"host": "service", "content-length": "1000", "expect": "100-continue"}
            lines = [f"POST {PATH} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
            sender.sendall("\r\n".join(lines).encode() + BODY[:100])
            assert sender.recv(100).startswith(b"HTTP/1.1 100 ")  # the body is being read
            # A reset. Who only closes his side may still read, and has the 15 s that everybody has.
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        server.wait_for("a webhook was refused")
        assert server.diagnostics[-1]["message"] == "a webhook was refused: the body ended too soon"
        assert server.stop() == 0
        assert [line for line in server.diagnostics if line["level"] == "error"] == []

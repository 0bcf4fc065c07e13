"""``SessionGuard`` and ``SessionBackend`` around applications as people write them."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.types import Message, Scope
from starlette.websockets import WebSocket

from service.events.request import read_head
from service.guard import SessionBackend, SessionGuard
from service.guard.middleware import open_session_check
from service.sessions.check import SessionUser
from service.settings import ConfigurationError, load_settings
from tests.guard.conftest import InEnvironment, client_of, is_open, started
from tests.guard.parts import SESSION, USER, Parts, bearer, cookies, expired, of_session, scope
from tests.support.lines import EventFile
from tests.support.signing import ORIGIN, pem


async def hello(request: Request) -> Response:
    """Answer who it is, and how much they sent."""
    user = request.user
    size = len(await request.body())
    return JSONResponse({"user": user.display_name, "authenticated": user.is_authenticated, "sent": size})


@requires("authenticated", status_code=401)
async def member(request: Request) -> Response:
    request.auth.scopes.append("admin")
    return JSONResponse(asdict(request.user) | {"scopes": request.auth.scopes})


ROUTES = [
    Route("/", hello, methods=["GET", "POST", "OPTIONS"]),
    Route("/healthz", hello),
    Route("/member", member),
]
NOBODY = {"user": "", "authenticated": False, "sent": 0}


def guarded(parts: Parts | None = None, **options: Any) -> Starlette:
    """An application behind a guard over given parts."""
    check = (parts or Parts()).check
    return Starlette(routes=ROUTES, middleware=[Middleware(SessionGuard, check=check, **options)])


def with_backend(sessions: SessionBackend) -> Starlette:
    authentication = Middleware(AuthenticationMiddleware, backend=sessions, on_error=sessions.on_error)
    return Starlette(routes=ROUTES, middleware=[authentication], lifespan=sessions.lifespan)


def backed(parts: Parts, **options: Any) -> Starlette:
    return with_backend(SessionBackend(parts.check, **options))


async def unreachable(*_: object) -> None:
    raise AssertionError("the guard let it pass")


async def answered(app: Any, request: Scope) -> list[Message]:
    """What an application sends for one request, or to somebody who opens a WebSocket and leaves."""
    coming: list[Message] = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1000}]
    messages: list[Message] = []

    async def receive() -> Message:
        return coming.pop(0)

    async def send(message: Message) -> None:
        messages.append(message)

    await app(request, receive, send)
    return messages


# --- Requests --------------------------------------------------------------------------------------------------------

EITHER = pytest.mark.parametrize("build", [guarded, backed])
Build = Callable[..., Starlette]


@EITHER
async def test_an_admitted_request_reaches_the_application(build: Build) -> None:
    """With its user, its body, and the scope that ``requires`` asks for; one that it adds is not held by the next."""
    issued = int(time.time())
    sent = bearer(of_session(now=issued, o={"id": "org_2abc"}, act={"sub": "user_2support"}))
    user: dict[str, object] = {
        "user_id": USER,
        "session_id": SESSION,
        "org_id": "org_2abc",
        "actor_id": "user_2support",
    }
    user |= {"expires_at": issued + 60, "is_pending": False}
    async with client_of(build(Parts())) as client:
        uploaded = await client.post("/", headers=sent, content=b"x" * 100_000)
        assert uploaded.json() == {"user": USER, "authenticated": True, "sent": 100_000}
        for _ in range(2):
            member = await client.get("/member", headers=sent)
            assert member.json() == user | {"scopes": ["authenticated", "admin"]}


@EITHER
@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        (lambda: bearer("garbage"), "token-invalid"),
        (lambda: bearer(expired()), "token-expired"),
        (lambda: bearer(of_session(sts="pending")), "session-pending"),
    ],
    ids=["garbage", "expired", "open tasks"],
)
async def test_one_that_does_not_count_is_refused_anywhere(
    build: Build, headers: Callable[[], dict[str, str]], reason: str
) -> None:
    async with client_of(build(Parts())) as client:
        response = await client.get("/", headers=headers())
    assert (response.status_code, response.json().keys()) == (401, {"success", "message", "reason"})
    assert response.json()["reason"] == reason
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["www-authenticate"] == f'Bearer error="invalid_token", error_description="{reason}"'


async def test_who_sends_no_token_is_refused_or_nobody() -> None:
    async with client_of(SessionGuard(unreachable, check=Parts().check)) as client:
        response = await client.get("/")
        assert (response.status_code, response.json()["reason"]) == (401, "session-token-missing")
        assert response.headers["www-authenticate"] == "Bearer"
    async with client_of(with_backend(SessionBackend(Parts().check))) as client:
        assert (await client.get("/")).json() == NOBODY
        assert (await client.get("/member")).status_code == 401


async def test_without_a_handler_the_backend_still_says_why() -> None:
    authentication = Middleware(AuthenticationMiddleware, backend=SessionBackend(Parts().check))
    async with client_of(Starlette(middleware=[authentication])) as client:
        assert (await client.get("/", headers=bearer("garbage"))).text == "token-invalid"


@EITHER
async def test_a_session_with_open_tasks_passes_where_it_is_allowed(build: Build) -> None:
    async with client_of(build(Parts(), allow_pending=True)) as client:
        assert (await client.get("/member", headers=bearer(of_session(sts="pending")))).json()["is_pending"]


@EITHER
async def test_a_signed_out_session_is_refused_from_then_on(build: Build) -> None:
    parts, sent = Parts(), bearer(of_session())
    async with client_of(build(parts)) as client:
        assert (await client.get("/", headers=sent)).status_code == 200
        await parts.revocations.revoke([SESSION])
        refused = await client.get("/", headers=sent)
        assert (refused.status_code, refused.json()["reason"]) == (401, "session-revoked")
        parts.store.out_of_reach = True
        unknown = await client.get("/", headers=sent)
        assert (unknown.status_code, unknown.headers["retry-after"]) == (503, "5")


# --- What passes without a look --------------------------------------------------------------------------------------


async def test_a_public_path_is_for_everybody_as_nobody() -> None:
    async with client_of(guarded(public={"/healthz", "/member"})) as client:
        for headers in ({}, bearer("garbage"), bearer(of_session())):
            assert (await client.get("/healthz", headers=headers)).json() == NOBODY
            assert (await client.get("/member", headers=headers)).status_code == 401


@pytest.mark.parametrize("path", ["/healthz/", "/HEALTHZ", "//healthz", "/x/../healthz"])
async def test_only_the_whole_path_is_public(path: str) -> None:
    guard = SessionGuard(unreachable, public={"/healthz"}, check=Parts().check)
    start, _ = await answered(guard, scope(path=path))
    assert start["status"] == 401


async def test_a_public_path_when_mounted_is_the_whole_path() -> None:
    app = Starlette(routes=[Mount("/api", app=guarded(public={"/api/healthz"}))])
    async with client_of(app) as client:
        assert (await client.get("/api/healthz")).status_code == 200
        assert (await client.get("/api/")).status_code == 401


def test_one_path_without_braces_is_a_mistake() -> None:
    with pytest.raises(TypeError, match="public is a collection of paths"):
        SessionGuard(unreachable, public="/healthz", check=Parts().check)


PREFLIGHT = {"Origin": ORIGIN, "Access-Control-Request-Method": "GET"}


@pytest.mark.parametrize("cors_first", [True, False])
async def test_a_preflight_is_answered_on_either_side_of_the_guard(*, cors_first: bool) -> None:
    cors = Middleware(CORSMiddleware, allow_origins=[ORIGIN], allow_credentials=True)
    guard = Middleware(SessionGuard, check=Parts().check)
    app = Starlette(routes=ROUTES, middleware=[cors, guard] if cors_first else [guard, cors])
    async with client_of(app) as client:
        preflight = await client.options("/", headers=PREFLIGHT)
        for name, value in PREFLIGHT.items():
            assert (await client.options("/", headers={name: value})).status_code == 401, "it is no preflight"
        refused = await client.get("/", headers=PREFLIGHT)
    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, ORIGIN)
    assert refused.status_code == 401
    # Only outside of the guard does it give its permission to read the refusal, too.
    assert ("access-control-allow-origin" in refused.headers) is cors_first


# --- WebSockets ------------------------------------------------------------------------------------------------------


async def greet(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(websocket.user.identity)
    await websocket.close()


async def test_a_websocket_is_accepted_only_with_a_session_that_counts() -> None:
    guard = Middleware(SessionGuard, check=Parts().check)
    app = Starlette(routes=[WebSocketRoute("/ws", greet)], middleware=[guard])
    messages = await answered(app, scope(cookies(of_session()), type="websocket", path="/ws"))
    assert [message["type"] for message in messages] == ["websocket.accept", "websocket.send", "websocket.close"]
    assert messages[1]["text"] == USER
    for headers in ({}, cookies("garbage")):
        messages = await answered(app, scope(headers, type="websocket", path="/ws"))
        assert [(message["type"], message["code"]) for message in messages] == [("websocket.close", 1008)]


# --- On its own, from the environment --------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [True, False])
async def test_it_is_open_around_the_application_and_no_longer(
    in_environment: InEnvironment, events: EventFile, *, own: bool
) -> None:
    """A server ends its event loop as soon as it hears of the end. The check of somebody else is left to them."""
    coming = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    open_at: dict[str, bool] = {}

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        open_at["start"] = is_open(events.path)
        yield
        open_at["end"] = is_open(events.path)

    async def receive() -> Message:
        return next(coming)

    async def send(message: Message) -> None:
        open_at[message["type"]] = is_open(events.path)

    in_environment()
    guard = Middleware(SessionGuard, check=None if own else Parts().check)
    await Starlette(middleware=[guard], lifespan=lifespan)({"type": "lifespan"}, receive, send)
    assert open_at.pop("lifespan.shutdown.complete") is False
    assert open_at == dict.fromkeys(["start", "lifespan.startup.complete", "end"], own)


async def test_a_backend_lives_as_long_as_the_application(in_environment: InEnvironment, events: EventFile) -> None:
    in_environment()
    for sessions, opens in ((SessionBackend(), True), (SessionBackend(Parts().check), False)):
        for _ in range(2):
            async with started(with_backend(sessions)) as client:
                assert is_open(events.path) is opens
                assert (await client.get("/", headers=bearer(of_session()))).json()["user"] == USER
            assert not is_open(events.path)


async def test_an_application_without_lifespan_leaves_nothing_open(
    in_environment: InEnvironment, events: EventFile
) -> None:
    in_environment()
    with pytest.raises(AssertionError):
        await answered(SessionGuard(unreachable), {"type": "lifespan"})
    assert not is_open(events.path)


async def test_in_a_mounted_application_the_first_requests_open_it(
    in_environment: InEnvironment, events: EventFile, caplog: pytest.LogCaptureFixture
) -> None:
    """Once for all of them. No lifespan reaches it there; what could not be opened is tried again."""
    guard = SessionGuard(Starlette(routes=ROUTES))
    async with started(Starlette(routes=[Mount("/api", app=guard)])) as client:
        in_environment(event_log=str(events.path / "no directory"))
        with pytest.raises(ConfigurationError, match=r"^EVENT_LOG: cannot be opened"):
            await client.get("/api/")
        in_environment()
        caplog.clear()
        answers = await asyncio.gather(*(client.get("/api/", headers=bearer(of_session())) for _ in range(10)))
        assert {answer.status_code for answer in answers} == {200}
        assert is_open(events.path)
    (warning,) = [record.message for record in caplog.records if record.name == "service.guard"]
    assert warning.startswith("REVOCATIONS_URL is memory://, so this guard learns of no logout")
    async with started(guard):
        pass  # closes it
    assert not is_open(events.path)


async def test_its_numbers_are_in_the_applications_registry(in_environment: InEnvironment) -> None:
    in_environment()
    registry = CollectorRegistry()
    for _ in range(2):
        assert registry.get_sample_value("clerk_logout_session_checks_total", {"result": "admitted"}) is None
        async with started(SessionGuard(Starlette(routes=ROUTES), registry=registry)) as client:
            await client.get("/", headers=bearer(of_session()))
            assert registry.get_sample_value("clerk_logout_session_checks_total", {"result": "admitted"}) == 1


async def test_how_the_application_is_served_is_not_judged(
    in_environment: InEnvironment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    in_environment(revocations_url="redis://127.0.0.1:1/0", revocations_fail="open")
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("HOST=\nWORKERS=4\n", "utf-8")
    for name, value in {"PORT": "tcp://10.0.0.1:80", "LOG_LEVEL": "trace"}.items():
        monkeypatch.setenv(name, value)
    async with open_session_check() as check:
        assert isinstance(await check(read_head(scope(bearer(of_session())))), SessionUser)
    assert [record for record in caplog.records if record.name == "service.guard"] == [], "the list is a shared one"


def test_a_guards_spool_is_not_the_services(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would deliver the service's waiting events to its own log."""
    monkeypatch.setenv("CLERK_JWT_KEY", pem())
    assert load_settings(for_guard=True).event_spool_dir != load_settings().event_spool_dir

"""``SessionBackend`` in an application with public and protected routes."""

from collections.abc import Callable

import pytest
from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from service.guard import SessionBackend
from tests.guard.conftest import client_of, is_open, started
from tests.guard.parts import SESSION, USER, Parts, bearer, expired, of_session
from tests.support.lines import EventFile


async def anybody(request: Request) -> Response:
    return PlainTextResponse(request.user.display_name or "nobody")


@requires("authenticated", status_code=401)
async def member(request: Request) -> Response:
    return PlainTextResponse(request.user.session_id)


def application(sessions: SessionBackend) -> Starlette:
    return Starlette(
        routes=[Route("/", anybody), Route("/member", member)],
        middleware=[Middleware(AuthenticationMiddleware, backend=sessions, on_error=sessions.on_error)],
        lifespan=sessions.lifespan,
    )


async def test_who_sends_no_token_is_nobody() -> None:
    async with client_of(application(SessionBackend(Parts().check))) as client:
        assert (await client.get("/")).text == "nobody"
        assert (await client.get("/member")).status_code == 401


async def test_who_sends_one_that_counts_is_its_user() -> None:
    async with client_of(application(SessionBackend(Parts().check, allow_pending=True))) as client:
        assert (await client.get("/", headers=bearer(of_session(sts="pending")))).text == USER
        assert (await client.get("/member", headers=bearer(of_session()))).text == SESSION


@pytest.mark.parametrize("path", ["/", "/member"])
async def test_who_sends_a_bad_one_is_refused_as_by_the_guard(path: str) -> None:
    async with client_of(application(SessionBackend(Parts().check))) as client:
        response = await client.get(path, headers=bearer(expired()))
        pending = await client.get(path, headers=bearer(of_session(sts="pending")))
    assert (response.status_code, response.json()["reason"]) == (401, "token-expired")
    assert response.headers["www-authenticate"] == 'Bearer error="invalid_token", error_description="token-expired"'
    assert pending.json()["reason"] == "session-pending"


async def test_a_signed_out_session_is_401_an_unknown_one_503() -> None:
    parts = Parts()
    await parts.revocations.revoke([SESSION])
    async with client_of(application(SessionBackend(parts.check))) as client:
        assert (await client.get("/", headers=bearer(of_session()))).json()["reason"] == "session-revoked"
        parts.store.out_of_reach = True
        assert (await client.get("/", headers=bearer(of_session()))).status_code == 503


async def test_on_its_own_it_lives_as_long_as_the_application(
    in_environment: Callable[..., None], events: EventFile
) -> None:
    in_environment()
    async with started(application(SessionBackend())) as client:
        assert is_open(events.path)
        assert (await client.get("/member", headers=bearer(of_session()))).text == SESSION
    assert not is_open(events.path)


async def test_a_check_of_somebody_else_is_left_to_them() -> None:
    sessions = SessionBackend(Parts().check)
    for _ in range(2):
        async with started(application(sessions)) as client:
            assert (await client.get("/", headers=bearer(of_session()))).text == USER

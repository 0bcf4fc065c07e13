"""Clerk's Backend API as the sandbox's stand-in answers it, in this process, with trouble where a test wants some."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import respx

from service.sandbox.app import create_sandbox
from service.sandbox.instance import Instance, Session
from tests.support.signing import ISSUER, claims, token

URL = "https://api.clerk.com"
SECRET_KEY = "sk_test_Zm9yVGVzdHNPbmx5"
ALICE = "user_alice"

Trouble = Callable[[httpx.Request], httpx.Response | Exception | None]


class StandIn:
    """The stand-in.

    Attributes:
        calls: method and path of each call, in order.
        trouble: gives what comes instead of its answer; None for its answer.
        hangs: says which calls are never answered.
        hanging: one of them has come.
    """

    def __init__(self) -> None:
        self.instance = Instance(ISSUER, SECRET_KEY)
        self.calls: list[str] = []
        self.trouble: Trouble = lambda _: None
        self.hangs: Callable[[httpx.Request], bool] = lambda _: False
        self.hanging = asyncio.Event()
        self._transport = httpx.ASGITransport(create_sandbox(self.instance))

    async def answer(self, request: httpx.Request) -> httpx.Response:
        """Answer one call."""
        self.calls.append(f"{request.method} {request.url.path}")
        if self.hangs(request):
            self.hanging.set()
            await asyncio.Event().wait()
        trouble = self.trouble(request)
        if isinstance(trouble, Exception):
            raise trouble
        if trouble is not None:
            return trouble
        answer = await self._transport.handle_async_request(request)
        return httpx.Response(answer.status_code, headers=answer.headers, content=await answer.aread())

    def sign_in(self, count: int = 1, user_id: str = ALICE) -> list[Session]:
        """Start sessions on so many devices, the newest last."""
        return [self.instance.sign_in(user_id) for _ in range(count)]

    def alive(self, user_id: str = ALICE) -> list[str]:
        """The sessions that are active."""
        return [session.id for session in self.instance.sessions(user_id=user_id, status="active")]

    @contextmanager
    def on_the_wire(self) -> Iterator[None]:
        """Stand at Clerk's address; any other request fails the test."""
        with respx.mock(assert_all_called=False) as router:
            router.route(url__startswith=f"{URL}/v1/").mock(side_effect=self.answer)
            yield


def expired_cookies(*names: str) -> list[str]:
    """The ``Set-Cookie`` headers that make a browser forget these cookies, partitioned ones too."""
    partitioned = "; Secure; SameSite=None; Partitioned"
    return [f"{name}=; Max-Age=0; Path=/{form}" for name in names for form in ("", partitioned)]


def token_of(session: Session, **changes: Any) -> str:
    """A session's token, signed with the tests' key."""
    return token(claims(sub=session.user_id, sid=session.id, **changes))


def revokes(request: httpx.Request) -> bool:
    """Say whether a call is to end a session."""
    return request.method == "POST"


def ended_in(request: httpx.Request) -> str | None:
    """The session that a call is to end."""
    return request.url.path.split("/")[3] if revokes(request) else None

"""The sandbox's stand-in for Clerk, served to a service in another process; and browsers that sign in there."""

import queue
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import httpx
import uvicorn
from joserfc.jwk import RSAKey
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.sandbox.app import create_sandbox
from service.sandbox.instance import Instance
from tests.support.processes import TIMEOUT
from tests.support.signing import ORIGIN

SECRET_KEY = "sk_test_standIn"


class Browser:
    """One device on which a user has signed in. It keeps the session's cookie, as clerk-js would."""

    def __init__(self, clerk_url: str, user_id: str) -> None:
        self._http = httpx.Client(base_url=clerk_url, headers={"Origin": ORIGIN}, timeout=TIMEOUT)
        (session,) = self._http.post("/sandbox/sign-in", params={"user_id": user_id}).json()["response"]["sessions"]
        self.session_id = str(session["id"])

    def ask_for_token(self) -> httpx.Response:
        """What clerk-js does every 50 s."""
        return self._http.post(f"/v1/client/sessions/{self.session_id}/tokens")

    def token(self) -> str:
        return str(self.ask_for_token().raise_for_status().json()["jwt"])

    def sign_out(self) -> None:
        """What ``clerk.signOut()`` does: the session ends at Clerk."""
        self._http.delete("/v1/client/sessions").raise_for_status()

    def close(self) -> None:
        self._http.close()


class Webhooks:
    """Brings the stand-in's webhooks to a service, as soon as it is said to which."""

    def __init__(self) -> None:
        self.url: str | None = None
        self.answers: queue.SimpleQueue[int] = queue.SimpleQueue()
        """The status of each answer."""

    async def __call__(self, headers: Mapping[str, str], body: bytes) -> None:
        if self.url is not None:
            async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT) as client:
                self.answers.put((await client.post(self.url, content=body, headers=headers)).status_code)

    def next_answer(self) -> int:
        """Wait until a webhook was answered."""
        return self.answers.get(timeout=TIMEOUT)


class Clerk:
    """The running stand-in."""

    def __init__(self, instance: Instance, url: str) -> None:
        self.instance = instance
        self.url = url
        self.webhooks = Webhooks()
        self.stuck: set[str] = set()
        """Sessions that cannot be ended: Clerk answers 500."""
        self.hanging: set[str] = set()
        """Sessions of which Clerk answers nothing."""
        self.hangs = threading.Event()
        """It was asked for one of them."""
        self._browsers: list[Browser] = []

    def settings(self) -> dict[str, str]:
        """What a service must be told to work with it."""
        (key,) = self.instance.jwks()["keys"]
        return {
            "CLERK_JWT_KEY": RSAKey.import_key(key).as_pem(private=False).decode(),
            "CLERK_SECRET_KEY": self.instance.secret_key,
            "CLERK_API_URL": self.url,
            "CLERK_ISSUER": self.instance.issuer,
            "CLERK_AUTHORIZED_PARTIES": ORIGIN,
        }

    def sign_in(self, user_id: str = "user_2alice") -> Browser:
        """Sign a user in on a new device."""
        browser = Browser(self.url, user_id)
        self._browsers.append(browser)
        return browser

    def token(self, user_id: str = "user_2alice") -> str:
        """A token of a new session."""
        return self.instance.session_token(self.instance.sign_in(user_id), ORIGIN)

    def statuses(self, user_id: str) -> list[str]:
        """How the user's sessions stand at Clerk, the newest first."""
        return [session.status for session in self.instance.sessions(user_id=user_id)]

    def close(self) -> None:
        for browser in self._browsers:
            browser.close()


@contextmanager
def serve_clerk() -> Iterator[Clerk]:
    """Serve the stand-in from a thread."""
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        url = "http://{}:{}".format(*listener.getsockname())
        clerk = Clerk(Instance(issuer=url, secret_key=SECRET_KEY), url)
        sandbox = create_sandbox(clerk.instance, deliver=clerk.webhooks)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            answers: ASGIApp = sandbox
            if scope["type"] == "http" and clerk.stuck & set(scope["path"].split("/")):
                answers = Response(status_code=500)
            if scope["type"] == "http" and clerk.hanging & set(scope["path"].split("/")):
                clerk.hangs.set()
                while (await receive())["type"] != "http.disconnect":
                    pass
                return
            await answers(scope, receive, send)

        with served(app, listener):
            try:
                yield clerk
            finally:
                clerk.close()


@contextmanager
def served(app: ASGIApp, listener: socket.socket) -> Iterator[None]:
    """Serve an app from a thread of its own; connections that come before it is ready wait in the listener."""
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, args=[[listener]], name="stand-in for Clerk")
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(TIMEOUT)
    assert not thread.is_alive()

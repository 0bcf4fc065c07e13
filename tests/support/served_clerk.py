"""The sandbox's stand-in for Clerk, served to a service in another process; and browsers that sign in there."""

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
        self._clerk_url = clerk_url
        self._cookies: dict[str, str] = {}
        signed_in = self._call("POST", f"/sandbox/sign-in?user_id={user_id}")
        self._cookies = dict(signed_in.cookies)
        (session,) = signed_in.json()["response"]["sessions"]
        self.session_id = str(session["id"])

    def _call(self, method: str, path: str) -> httpx.Response:
        headers = {"Origin": ORIGIN, "Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items())}
        return httpx.request(method, self._clerk_url + path, headers=headers, timeout=TIMEOUT)

    def ask_for_token(self) -> httpx.Response:
        """What clerk-js does every 50 s."""
        return self._call("POST", f"/v1/client/sessions/{self.session_id}/tokens")

    def token(self) -> str:
        return str(self.ask_for_token().raise_for_status().json()["jwt"])

    def sign_out(self) -> None:
        """What ``clerk.signOut()`` does: the session ends at Clerk."""
        self._call("DELETE", "/v1/client/sessions").raise_for_status()


class Clerk:
    """The running stand-in."""

    def __init__(self, instance: Instance, url: str) -> None:
        self.instance = instance
        self.url = url
        self._webhook_url: str | None = None
        self.stuck: set[str] = set()
        """Parts of paths where Clerk answers 500."""
        self.hanging: set[str] = set()
        """Sessions of which Clerk answers nothing."""
        self.hangs = threading.Event()
        """It was asked for one of them."""

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

    @contextmanager
    def webhooks_to(self, url: str) -> Iterator[None]:
        """Have webhooks brought to a service."""
        self._webhook_url = url
        yield
        self._webhook_url = None

    async def deliver(self, headers: Mapping[str, str], body: bytes) -> None:
        if self._webhook_url is not None:
            async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT) as client:
                await client.post(self._webhook_url, content=body, headers=headers)

    def sign_in(self, user_id: str = "user_2alice") -> Browser:
        """Sign a user in on a new device."""
        return Browser(self.url, user_id)

    def token(self, user_id: str = "user_2alice") -> str:
        """A token of a new session."""
        return self.instance.session_token(self.instance.sign_in(user_id), ORIGIN)

    def statuses(self, user_id: str) -> list[str]:
        """How the user's sessions stand at Clerk, the newest first."""
        return [session.status for session in self.instance.sessions(user_id=user_id)]


@contextmanager
def serve_clerk() -> Iterator[Clerk]:
    """Serve the stand-in from a thread."""
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        url = "http://{}:{}".format(*listener.getsockname())
        clerk = Clerk(Instance(issuer=url, secret_key=SECRET_KEY), url)
        sandbox = create_sandbox(clerk.instance, deliver=clerk.deliver)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            asked = set(scope.get("path", "").split("/"))
            if clerk.hanging & asked:
                clerk.hangs.set()
                while (await receive())["type"] != "http.disconnect":
                    pass
            else:
                answers = Response(status_code=500) if clerk.stuck & asked else sandbox
                await answers(scope, receive, send)

        with served(app, listener):
            yield clerk


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

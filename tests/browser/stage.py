"""What the browser tests play on: the example application, the service and Clerk, all on this machine.

The application is the built one of ``example``, with the real clerk-js. The service runs under uvicorn, once in good
order and once in each trouble, told apart by the port. Clerk is the sandbox, behind TLS, under the host of its key.
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import uvicorn
from joserfc.jwk import RSAKey
from playwright.async_api import Browser, BrowserContext, Page, Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.app import create_app
from service.sandbox.app import create_sandbox
from service.sandbox.instance import COOKIE_SUFFIX, FRONTEND_API, PUBLISHABLE_KEY, Instance, Session, new_id
from service.sandbox.webhooks import post_to
from service.settings import Settings
from tests.browser.example import EXAMPLE, PACKAGES, next_environment
from tests.support.lines import read_line
from tests.support.processes import TIMEOUT
from tests.support.tls import make_certificate

SECRET_KEY = "sk_test_sandbox"
TROUBLES = ("well", "slow preflight", "failing", "hanging", "without CORS", "missing")
TRIES = int(os.environ.get("TRIES", "10"))
SLOW = 1.5
HANGING = 10.0


@dataclass
class Trouble:
    """What is wrong with Clerk for one browser, and for how long it thinks before it answers."""

    tokens: str = ""
    """``500``, ``reset`` or ``hang``: what its token endpoint does."""
    sign_out: str = ""
    """``500``: what signing out does."""
    sign_out_delay: float = 0.0


class Clerk:
    """The stand-in, and its troubles."""

    def __init__(self, instance: Instance, sandbox: ASGIApp) -> None:
        self.instance = instance
        self._sandbox = sandbox
        self.troubles: dict[str, Trouble] = {}
        """By the browser's ``__clerk_db_jwt``."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or b"__clerk_db_jwt=" not in scope["query_string"]:
            await self._sandbox(scope, receive, send)
            return
        browser = scope["query_string"].split(b"__clerk_db_jwt=")[1].split(b"&")[0].decode()
        trouble = self.troubles.get(browser, Trouble())
        what = ""
        if scope["path"].endswith("/tokens"):
            what = trouble.tokens
        if scope["path"] == "/v1/client/sessions" and scope["method"] != "OPTIONS":
            await asyncio.sleep(trouble.sign_out_delay)
            what = trouble.sign_out
        if not what or scope["method"] == "OPTIONS":
            await self._sandbox(scope, receive, send)
        elif what == "500":
            await _failure(scope, receive, send)
        elif what == "hang":
            while (await receive())["type"] != "http.disconnect":
                pass
        else:  # half an answer, upon which uvicorn closes the connection
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100")]})


async def _failure(scope: Scope, receive: Receive, send: Send) -> None:
    origin = dict(scope["headers"]).get(b"origin", b"null").decode()
    headers = {
        "access-control-allow-origin": origin,
        "access-control-allow-credentials": "true",
        "access-control-allow-headers": "authorization",
        "access-control-allow-methods": "DELETE, GET, POST",
    }
    status = 200 if scope["method"] == "OPTIONS" else 500
    await JSONResponse({"errors": []}, status_code=status, headers=headers)(scope, receive, send)


async def _missing(scope: Scope, receive: Receive, send: Send) -> None:
    async def send_404(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 500:
            message["status"] = 404
        await send(message)

    await _failure(scope, receive, send_404)


def troubled(service: ASGIApp, trouble: str) -> ASGIApp:
    """The service, with something wrong with it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if trouble == "slow preflight" and scope["method"] == "OPTIONS":
            await asyncio.sleep(SLOW)
        if trouble == "hanging":
            await asyncio.sleep(HANGING)
        if trouble == "failing":
            await _failure(scope, receive, send)
        elif trouble == "missing":
            await _missing(scope, receive, send)
        elif trouble == "without CORS":
            headers = [(name, value) for name, value in scope["headers"] if name != b"origin"]
            await service(dict(scope, headers=headers), receive, send)
        else:
            await service(scope, receive, send)

    return app


@contextmanager
def served(app: ASGIApp, *listeners: socket.socket, **options: Any) -> Iterator[None]:
    """Serve an app from a thread of its own."""
    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1, **options)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=[list(listeners)])
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(TIMEOUT)


def listen() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0), backlog=2048)


def port_of(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


def free_port() -> int:
    with listen() as listener:
        return port_of(listener)


@dataclass
class Visit:
    """One browser, signed in, with the application before it."""

    stage: "Stage"
    context: BrowserContext
    page: Page
    session: Session
    warnings: list[str] = field(default_factory=list)

    @property
    def trouble(self) -> Trouble:
        return self.stage.clerk.troubles.setdefault(self.session.client_id, Trouble())

    async def session_cookies(self) -> set[str]:
        """The names of the session cookies that hold a token."""
        found = await self.context.cookies("http://localhost")
        return {cookie["name"] for cookie in found if cookie["name"].startswith("__session") and cookie.get("value")}


class Stage:
    """All of it, running."""

    def __init__(
        self, browser: Browser, *, clerk: Clerk, events: Path, app_url: str, dev_url: str, urls: dict[str, str]
    ) -> None:
        self.browser, self.clerk, self._events = browser, clerk, events
        self.app_url, self.dev_url, self.urls = app_url, dev_url, urls
        self._users = 0

    @asynccontextmanager
    async def browser_context(
        self, expected_errors: Sequence[str] = (), **settings: object
    ) -> AsyncIterator[BrowserContext]:
        """A browser without a past. A request that leaves the machine fails the test, as does an error in a page."""
        context = await self.browser.new_context(ignore_https_errors=True)
        context.set_default_timeout(10_000)
        left: list[str] = []
        errors: list[str] = []

        def look(url: str) -> None:
            parts = urlsplit(url)
            if parts.scheme in {"http", "https"} and parts.hostname not in {"localhost", "127.0.0.1", FRONTEND_API}:
                left.append(url)

        def sent(request: Request) -> None:
            look(request.url)
            if request.method == "DELETE":
                under_way.add(request)

        def over(request: Request) -> None:
            under_way.discard(request)

        under_way: set[Request] = set()
        context.on("request", sent)
        context.on("requestfinished", over)
        context.on("requestfailed", over)
        context.on("weberror", lambda error: errors.append(str(error.error)))
        stored = f"localStorage.setItem('example', {json.dumps(json.dumps(settings))})"
        await context.add_init_script(f"if (location.hostname === 'localhost') {stored}")
        yield context
        for _ in range(50):  # closing the context ends what a browser would go on with
            if context.pages and under_way:
                await asyncio.sleep(0.05)
        await context.close()
        assert left == []
        # React error 418: Clerk has loaded before the page was hydrated, on a busy machine.
        expected = (*expected_errors, "React error #418")
        unexpected = [error for error in errors if not any(text in error for text in expected)]
        assert not unexpected, unexpected

    @asynccontextmanager
    async def visit(
        self, path: str = "/dashboard", *, dev: bool = False, sessions: int = 1, user_id: str = "", **options: Any
    ) -> AsyncIterator[Visit]:
        """A browser in which somebody is signed in, at a page of the application."""
        app = self.dev_url if dev else self.app_url
        async with self.browser_context(**options) as context:
            visit = Visit(self, context, await context.new_page(), await self.sign_in(context, user_id))
            for _ in range(sessions - 1):
                self.clerk.instance.sign_in(f"{visit.session.user_id}Other", client_id=visit.session.client_id)
            if sessions > 1:
                (visit.session,) = self.sessions(visit)[:1]
            visit.page.on(
                "console", lambda message: visit.warnings.append(message.text) if message.type == "warning" else None
            )
            await visit.page.goto(f"{app}{path}")
            await visit.page.wait_for_function("window.Clerk?.session")
            yield visit

    async def sign_in(self, context: BrowserContext, user_id: str = "") -> Session:
        """Sign a user in, one whom no other test has unless told otherwise: Clerk and the browser know of it then."""
        self._users += 1
        browser = new_id("dvb")
        session = self.clerk.instance.sign_in(user_id or f"user_2number{self._users}", client_id=browser)
        now = str(int(time.time()))
        for name, value in {"__clerk_db_jwt": browser, "__client_uat": now}.items():
            for full in (name, f"{name}_{COOKIE_SUFFIX}"):
                await context.add_cookies([{"name": full, "value": value, "url": "http://localhost"}])
        return session

    async def many(
        self, scenario: Callable[[Visit], Awaitable[None]], tries: int = TRIES, at_once: int = 4, **options: Any
    ) -> list[Session]:
        """Play a scenario in so many browsers, a few at a time; give the sessions."""
        few = asyncio.Semaphore(at_once)

        async def one() -> Session:
            async with few, self.visit(**options) as visit:
                await scenario(visit)
                return visit.session

        return await asyncio.gather(*(one() for _ in range(tries)))

    def sessions(self, visit: Visit) -> list[Session]:
        """The sessions of a browser, the newest first."""
        return self.clerk.instance.sessions(client_id=visit.session.client_id)

    def events(self, session: Session, event: str = "user_logout") -> list[dict[str, Any]]:
        """What is recorded of a session; a line that comes again, from the spool, has the same ``event_id``."""
        with self._events.open("rb") as file:
            lines = [read_line(line) for line in file if line.endswith(b"\n")]
        found = [line for line in lines if line["event"] == event and line["session_id"] == session.id]
        return list({line["event_id"]: line for line in found}.values())

    def count(self, auth: str) -> int:
        """How many logouts there are with a verdict."""
        with self._events.open("rb") as file:
            lines = [json.loads(line) for line in file if line.endswith(b"\n")]
        return len({line["event_id"] for line in lines if line["auth"] == auth})

    async def event(self, session: Session, event: str = "user_logout", within: float = 15.0) -> dict[str, Any]:
        """Wait for the one event of a session; that no second one comes is seen at the end of the test run."""
        deadline = time.monotonic() + within
        while not (found := self.events(session, event)):
            assert time.monotonic() < deadline, f"no {event} of {session} was recorded"
            await asyncio.sleep(0.05)
        return found[0]


@contextmanager
def running_next(command: str, port: int, environment: Mapping[str, str]) -> Iterator[str]:
    """Run ``next start`` or ``next dev``; give the URL when it answers."""
    url = f"http://localhost:{port}"
    process = subprocess.Popen(
        ["node_modules/.bin/next", command, "-H", "localhost", "-p", str(port)],
        cwd=EXAMPLE,
        env=dict(environment),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # next is several processes, which end together
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                httpx.get(f"{url}/v1/nothing", timeout=30, trust_env=False)
                break
            except httpx.HTTPError:
                assert process.poll() is None, f"next {command} ended"
                assert time.monotonic() < deadline, f"next {command} did not answer"
                time.sleep(0.1)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(TIMEOUT)


@contextmanager
def set_up(directory: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """Start everything but the browser; give what a stage needs, and the port of Clerk's Frontend API."""
    with ExitStack() as stack:
        listeners = {trouble: stack.enter_context(listen()) for trouble in TROUBLES}
        urls = {trouble: f"http://localhost:{port_of(listener)}" for trouble, listener in listeners.items()}
        urls["refused"] = f"http://localhost:{free_port()}"
        elsewhere, backend_api, frontend_api = (stack.enter_context(listen()) for _ in range(3))
        urls["elsewhere"] = f"http://127.0.0.1:{port_of(elsewhere)}/elsewhere"
        api_url = f"http://127.0.0.1:{port_of(backend_api)}"
        app_port, dev_port = free_port(), free_port()

        instance = Instance(f"https://{FRONTEND_API}", SECRET_KEY)
        (key,) = instance.jwks()["keys"]
        settings = Settings(
            clerk_jwt_key=RSAKey.import_key(key).as_pem(private=False).decode(),
            clerk_secret_key=SECRET_KEY,
            clerk_api_url=api_url,
            clerk_issuer=instance.issuer,
            clerk_authorized_parties=(f"http://localhost:{app_port}", f"http://localhost:{dev_port}"),
            clerk_webhook_signing_secret=instance.webhook_secret,
            reverification_max_age_minutes=10,
            event_log=str(directory / "events.jsonl"),
            event_spool_dir=str(directory / "spool"),
            flood_per_second=1_000_000,
        )
        service = create_app(settings)
        by_port = {port_of(listener): troubled(service, trouble) for trouble, listener in listeners.items()}
        by_port[port_of(elsewhere)] = PlainTextResponse("elsewhere")

        async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
            app = by_port[scope["server"][1]] if scope["type"] == "http" else service
            await app(scope, receive, send)

        deliver = post_to(httpx.AsyncClient(trust_env=False), f"{urls['well']}/v1/webhooks/clerk")
        clerk = Clerk(instance, create_sandbox(instance, deliver=deliver, packages=PACKAGES))
        certificate, private_key = make_certificate(directory, FRONTEND_API)
        stack.enter_context(served(dispatch, *listeners.values(), elsewhere))
        stack.enter_context(served(clerk, backend_api))
        stack.enter_context(served(clerk, frontend_api, ssl_certfile=str(certificate), ssl_keyfile=str(private_key)))

        environment = next_environment(
            api_url=api_url,
            publishable_key=PUBLISHABLE_KEY,
            NEXT_PUBLIC_CLERK_LOGOUT_URL=urls["well"],
            LOGOUT_SERVICE=urls["well"],
        )
        built = subprocess.run(
            ["node_modules/.bin/next", "build"], cwd=EXAMPLE, env=environment, capture_output=True, check=False
        )
        assert built.returncode == 0, built.stdout + built.stderr
        app_url = stack.enter_context(running_next("start", app_port, environment))
        dev_url = stack.enter_context(running_next("dev", dev_port, environment))
        parts = {
            "clerk": clerk,
            "events": directory / "events.jsonl",
            "app_url": app_url,
            "dev_url": dev_url,
            "urls": urls,
        }
        yield parts, port_of(frontend_api)

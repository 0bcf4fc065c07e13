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
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import uvicorn
from joserfc.jwk import RSAKey
from playwright.async_api import Browser, BrowserContext, Page
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.app import create_app
from service.sandbox.app import create_sandbox
from service.sandbox.instance import COOKIE_SUFFIX, FRONTEND_API, PUBLISHABLE_KEY, Instance, Session, new_id
from service.sandbox.webhooks import post_to
from service.settings import Settings
from tests.browser.example import EXAMPLE, PACKAGES, next_environment
from tests.support.lines import read_line
from tests.support.processes import TIMEOUT, free_port

SECRET_KEY = "sk_test_sandbox"
TROUBLES = ("well", "slow preflight", "failing", "hanging", "without CORS", "missing")
TRIES = int(os.environ.get("TRIES", "10"))
SLOW = 1.5
HANGING = 10.0
MAX_AGE = b"access-control-max-age"


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
            await _answering(500)(scope, receive, send)
        elif what == "hang":
            while (await receive())["type"] != "http.disconnect":
                pass
        else:  # half an answer, upon which uvicorn closes the connection
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100")]})


def _answering(status: int) -> ASGIApp:
    return CORSMiddleware(
        JSONResponse({"errors": []}, status),
        allow_origin_regex=".*",
        allow_credentials=True,
        allow_methods=["*"],
        allow_headers=["*"],
    )


def troubled(service: ASGIApp, trouble: str) -> ASGIApp:
    """The service, with something wrong with it."""
    answering = {"failing": _answering(500), "missing": _answering(404)}.get(trouble, service)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def uncached(message: Message) -> None:
            """Have a browser ask before each call, as a new one does."""
            headers = message.get("headers", [])
            message["headers"] = [(name, b"0" if name == MAX_AGE else value) for name, value in headers]
            await send(message)

        if trouble == "slow preflight" and scope["method"] == "OPTIONS":
            await asyncio.sleep(SLOW)
        if trouble == "hanging":
            await asyncio.sleep(HANGING)
        if trouble == "without CORS":
            scope["headers"] = [(name, value) for name, value in scope["headers"] if name != b"origin"]
        await answering(scope, receive, uncached)

    return app


@contextmanager
def served(app: ASGIApp, *listeners: socket.socket, **options: Any) -> Iterator[None]:
    """Serve an app from a thread of its own."""
    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=15, **options)
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


Way = Callable[[Visit], Awaitable[None]]


@dataclass
class Stage:
    """All of it, running."""

    clerk: Clerk
    frontend_api: int
    """The port of Clerk's Frontend API."""
    log: Path
    app_url: str
    dev_url: str
    urls: dict[str, str]
    """Where the service is, in each trouble."""
    browser: Browser = field(init=False)
    _users: int = 0
    _read: int = 0
    _lines: dict[str, dict[str, Any]] = field(default_factory=dict)

    @asynccontextmanager
    async def browser_context(
        self, expected_errors: Sequence[str] = (), **settings: object
    ) -> AsyncIterator[BrowserContext]:
        """A browser without a past. A request that leaves the machine fails the test, as does an error in a page."""
        context = await self.browser.new_context(ignore_https_errors=True, reduced_motion="reduce")
        context.set_default_timeout(10_000)
        left: list[str] = []
        errors: list[str] = []

        def look(url: str) -> None:
            parts = urlsplit(url)
            if parts.scheme in {"http", "https"} and parts.hostname not in {"localhost", "127.0.0.1", FRONTEND_API}:
                left.append(url)

        heard: list[str] = []
        context.on("request", lambda request: look(request.url))
        context.on("requestfailed", lambda request: heard.append(f"{request.url}: {request.failure}"))
        context.on("console", lambda message: heard.append(f"{message.type}: {message.text}"))
        context.on("weberror", lambda error: errors.append(str(error.error)))
        stored = f"localStorage.setItem('example', {json.dumps(json.dumps(settings))})"
        await context.add_init_script(f"if (location.hostname === 'localhost') {stored}")
        try:
            yield context
        except Exception as error:
            error.add_note("\n".join([*(page.url for page in context.pages), *heard, *errors]))
            raise
        finally:
            await context.close()
        assert left == []
        # React error 418: `<UserButton>` renders by whether Clerk has loaded, also where that was before the page was
        # hydrated, on a busy machine. React then renders it anew.
        expected = (*expected_errors, "React error #418")
        unexpected = [error for error in errors if not any(text in error for text in expected)]
        assert not unexpected, unexpected

    @asynccontextmanager
    async def visit(
        self, *, dev: bool = False, sessions: int = 1, user_id: str = "", **options: Any
    ) -> AsyncIterator[Visit]:
        """A browser in which somebody is signed in, at the dashboard of the application."""
        async with self.browser_context(**options) as context:
            yield await self.enter(context, dev=dev, sessions=sessions, user_id=user_id)

    async def enter(self, context: BrowserContext, *, dev: bool = False, sessions: int = 1, user_id: str = "") -> Visit:
        visit = Visit(self, context, await context.new_page(), await self.sign_in(context, user_id))
        for _ in range(sessions - 1):
            self.clerk.instance.sign_in(f"{visit.session.user_id}Other", client_id=visit.session.client_id)
        visit.session = self.sessions(visit)[0]
        visit.page.on(
            "console", lambda message: visit.warnings.append(message.text) if message.type == "warning" else None
        )
        await visit.page.goto(f"{self.dev_url if dev else self.app_url}/dashboard")
        await visit.page.wait_for_function("window.Clerk?.session")
        return visit

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
        self, scenario: Way, tries: int = TRIES, at_once: int = 3, sessions: int = 1, **options: Any
    ) -> list[Session]:
        """Play a scenario so many times, in a few browsers at once; give the sessions."""
        visits: list[Visit] = []
        to_do = iter(range(tries))

        async def again_and_again() -> None:
            async with self.browser_context(**options) as context:
                for _ in to_do:
                    await context.clear_cookies()
                    visits.append(visit := await self.enter(context, sessions=sessions))
                    await scenario(visit)
                    for page in context.pages:
                        await page.close()

        async with asyncio.TaskGroup() as group:
            for _ in range(min(at_once, tries)):
                group.create_task(again_and_again())
        return [visit.session for visit in visits]

    def sessions(self, visit: Visit) -> list[Session]:
        """The sessions of a browser, the newest first."""
        return self.clerk.instance.sessions(client_id=visit.session.client_id)

    def lines(self) -> Collection[dict[str, Any]]:
        """All events so far; a line that comes again, from the spool, has the same ``event_id``."""
        with self.log.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if line.endswith(b"\n"):
                    self._read += len(line)
                    event = read_line(line)
                    self._lines[event["event_id"]] = event
        return self._lines.values()

    def events(self, session: Session, event: str = "user_logout") -> list[dict[str, Any]]:
        return [line for line in self.lines() if line["event"] == event and line["session_id"] == session.id]

    def count(self, auth: str) -> int:
        return sum(line["auth"] == auth for line in self.lines())

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
def set_up(directory: Path) -> Iterator[Stage]:
    """Start everything but the browser."""
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

        # Clerk runs in two threads, neither of which would close what the other keeps open.
        client = httpx.AsyncClient(trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))
        deliver = post_to(client, f"{urls['well']}/v1/webhooks/clerk")
        clerk = Clerk(instance, create_sandbox(instance, deliver=deliver, packages=PACKAGES))
        tls = {"ssl_certfile": f"{directory}/certificate.pem", "ssl_keyfile": f"{directory}/key.pem"}
        make = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={FRONTEND_API}".split()
        out = ["-out", tls["ssl_certfile"], "-keyout", tls["ssl_keyfile"]]
        subprocess.run([*make, *out], check=True, capture_output=True)
        stack.enter_context(served(dispatch, *listeners.values(), elsewhere))
        stack.enter_context(served(clerk, backend_api))
        stack.enter_context(served(clerk, frontend_api, **tls))

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
        yield Stage(clerk, port_of(frontend_api), directory / "events.jsonl", app_url, dev_url, urls)

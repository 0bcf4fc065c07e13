"""A stand-in for Clerk's Backend API that fails in every way that it can be told to, and counts the fetches."""

import asyncio
import json
import socket
import time
from contextlib import ExitStack
from enum import StrEnum
from typing import Any

from starlette.types import Receive, Scope, Send

from tests.support.served_clerk import served
from tests.support.signing import jwk


class Fault(StrEnum):
    """What happens to whoever fetches the JWKS."""

    NONE = "none"
    REFUSED = "connection refused"
    HANGING = "hanging"
    DRIPPING = "dripping a byte per second"
    STATUS_500 = "status 500"
    MALFORMED = "malformed JSON"
    EMPTY = "empty key list"


class TroubledClerk(ExitStack):
    """One stand-in on a port of its own. ``fault`` and ``keys`` may be changed at any time; ``close`` it to refuse."""

    def __init__(self, fault: Fault = Fault.NONE) -> None:
        super().__init__()
        self.fault = fault
        self.keys: list[dict[str, Any]] = [jwk()]
        self.fetches: list[float] = []
        """When each fetch arrived, on ``time.monotonic``."""
        listener = self.enter_context(socket.create_server(("127.0.0.1", 0)))
        url = "http://{}:{}".format(*listener.getsockname())
        self.settings = {"CLERK_JWT_KEY": "", "CLERK_SECRET_KEY": "sk_test_nobody", "CLERK_API_URL": url}
        """What a service must be told to ask it for keys; an empty variable counts as not set."""
        self.enter_context(served(self, listener))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        self.fetches.append(time.monotonic())
        while self.fault is Fault.HANGING and (await receive())["type"] != "http.disconnect":
            pass
        keys = [] if self.fault is Fault.EMPTY else self.keys
        body = b'{"keys": [{"kty": ' if self.fault is Fault.MALFORMED else json.dumps({"keys": keys}).encode()
        status = 500 if self.fault is Fault.STATUS_500 else 200
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for byte in body if self.fault is Fault.DRIPPING else b"":
            await send({"type": "http.response.body", "body": bytes([byte]), "more_body": True})
            await asyncio.sleep(1)
        await send({"type": "http.response.body", "body": b"" if self.fault is Fault.DRIPPING else body})

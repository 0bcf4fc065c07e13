"""The running service against its OpenAPI document: schemathesis asks whatever the document allows, and what it forbids.

Every check that schemathesis has is on; each call is checked for what it gets back. What is generated is the same in
every run, and no session is kept from one call to the next.
"""

import hashlib
import hmac
import json
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import settings
from schemathesis.config import CoveragePhaseConfig, PhasesConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig
from schemathesis.core.parameters import ParameterLocation

from service.endpoints.openapi import document
from tests.support.api_document import operations, resolved, validator
from tests.support.clerk import Clerk, serve_clerk
from tests.support.processes import TIMEOUT, Server, serve

SIGNING_SECRET = "whsec_" + b64encode(b"the signing secret of this test!").decode()
WEBHOOK = "/v1/webhooks/clerk"

API = schemathesis.openapi.from_dict(json.loads(json.dumps(document())), config=SchemathesisConfig(seed=1))
the_same_in_every_run = settings(max_examples=25, derandomize=True, deadline=None, database=None)


@pytest.fixture(scope="module")
def clerk() -> Iterator[Clerk]:
    with serve_clerk() as clerk:
        yield clerk


@pytest.fixture(scope="module")
def server(clerk: Clerk) -> Iterator[Server]:
    with serve(settings=clerk.settings() | {"CLERK_WEBHOOK_SIGNING_SECRET": SIGNING_SECRET}) as server:
        yield server


def signed(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Sign a webhook as Clerk does, when the rest of the request is as it will be sent."""
    body = request.body or b""
    if isinstance(body, str):
        body = body.encode()
    name, sent_at = "msg_2xyzUVW", str(int(time.time()))
    key = b64decode(SIGNING_SECRET.removeprefix("whsec_"))
    mac = hmac.digest(key, f"{name}.{sent_at}.".encode() + body, hashlib.sha256)
    request.headers["svix-id"], request.headers["svix-timestamp"] = name, sent_at
    request.headers["svix-signature"] = f"v1,{b64encode(mac).decode()}"
    return request


def is_odd(case: schemathesis.Case, location: ParameterLocation) -> bool:
    """Whether what the case sends there is against the document on purpose."""
    return case.meta is not None and case.meta.is_negative_at(location)


@API.parametrize()
@the_same_in_every_run
def test_strangers_get_what_the_document_says(case: schemathesis.Case, server: Server) -> None:
    """With no token, or with what schemathesis takes for one; webhooks are signed where their headers are whole."""
    auth = signed if case.path == WEBHOOK and not is_odd(case, ParameterLocation.HEADER) else None
    case.call_and_validate(base_url=server.url, auth=auth, timeout=TIMEOUT)


@API.include(path_regex="^/v1/auth/").parametrize()
@the_same_in_every_run
def test_users_get_what_the_document_says(case: schemathesis.Case, server: Server, clerk: Clerk) -> None:
    """With the token of a new session in each call."""
    token = clerk.token(f"user_{case.id}")
    case.call_and_validate(base_url=server.url, headers={"Authorization": f"Bearer {token}"}, timeout=TIMEOUT)

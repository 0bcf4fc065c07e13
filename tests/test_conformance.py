"""The running service against its OpenAPI document: schemathesis asks what the document allows, and what it forbids.

Every check that schemathesis has is on; each call is checked for what it gets back. What is generated is the same in
every run, and no session is kept from one call to the next.
"""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import settings
from schemathesis.config import SchemathesisConfig
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi import checks

from service.endpoints.documents import document
from tests.support.api_document import examples, operations, validator
from tests.support.lines import EventFile
from tests.support.processes import TIMEOUT, Server, serve
from tests.support.served_clerk import Clerk, serve_clerk
from tests.support.signing import ORIGIN
from tests.support.webhooks import SECRET, signed

WEBHOOK = "/v1/webhooks/clerk"

Case = schemathesis.Case[Any]
API = schemathesis.openapi.from_dict(json.loads(json.dumps(document())), config=SchemathesisConfig(seed=1))
the_same_in_every_run = settings(max_examples=50, derandomize=True, deadline=None, database=None)


@pytest.fixture(scope="module")
def clerk() -> Iterator[Clerk]:
    with serve_clerk() as clerk:
        yield clerk


@pytest.fixture(scope="module")
def server(clerk: Clerk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With all that can be configured. In the end, each event line that it wrote is held to its schema, too."""
    log = EventFile(tmp_path_factory.mktemp("conformance") / "events.jsonl")
    settings = {"CLERK_WEBHOOK_SIGNING_SECRET": SECRET, "EVENT_LOG": str(log.path)}
    with serve(settings=clerk.settings() | settings) as server:
        yield server
    log.new()


def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Sign a webhook as Clerk does, when the rest of the request is as it will be sent."""
    body = request.body or b""
    body = body.encode() if isinstance(body, str) else body
    assert isinstance(body, bytes)
    request.headers.update({name: value for name, value in signed(body).items() if name.startswith("svix-")})
    return request


def is_odd(case: Case, location: ParameterLocation) -> bool:
    """Whether what the case sends there is against the document on purpose."""
    return case.meta is not None and case.meta.is_negative_at(location)


@API.parametrize()
@the_same_in_every_run
def test_strangers_get_what_the_document_says(case: Case, server: Server) -> None:
    """With no token, or what schemathesis takes for one. Webhooks are signed unless their headers are odd by intent."""
    auth = sign if case.path == WEBHOOK and not is_odd(case, ParameterLocation.HEADER) else None
    case.call_and_validate(base_url=server.url, auth=auth, timeout=TIMEOUT)


@API.include(path_regex="^/v1/auth/").parametrize()
@the_same_in_every_run
def test_users_get_what_the_document_says(case: Case, server: Server, clerk: Clerk) -> None:
    """With the token of a new session in each call."""
    token = clerk.token(f"user_{case.id}")
    case.call_and_validate(base_url=server.url, headers={"Authorization": f"Bearer {token}"}, timeout=TIMEOUT)


# --- What schemathesis does not come upon by itself ------------------------------------------------------------------

METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"}
SESSION, SESSIONS = "/v1/auth/session", "/v1/auth/sessions"
CONFORMANCE = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]


def call(server: Server, method: str, path: str, status: int, **sent: Any) -> httpx.Response:
    """Call, and hold the answer to the document with schemathesis's own checks."""
    answer = httpx.request(method, server.url + path, timeout=TIMEOUT, **sent)
    assert answer.status_code == status
    API[path.partition("?")[0]][method].Case().validate_response(answer, checks=CONFORMANCE)
    return answer


def is_shown(answer: httpx.Response, method: str, path: str) -> bool:
    """Whether the document gives the answer as an example."""
    return answer.json() in examples(method, path, answer.status_code)


def is_refusal(answer: httpx.Response) -> None:
    validator(document()["components"]["schemas"]["Refusal"]).validate(answer.json())
    assert answer.headers["content-type"] == "application/json"
    assert len(answer.headers.get_list("x-request-id")) == 1
    assert answer.headers.get_list("cache-control") == ["no-store"]
    assert answer.headers.get_list("x-content-type-options") == ["nosniff"]


def bearer(clerk: Clerk, user: str) -> dict[str, str]:
    """With the token of a new session, whose user proved an hour ago who it is."""
    session = clerk.instance.sign_in(user)
    session.created_at -= 3_600_000
    return {"Authorization": f"Bearer {clerk.instance.session_token(session, ORIGIN)}"}


@pytest.mark.parametrize("path", document()["paths"])
def test_another_method_is_refused(server: Server, path: str) -> None:
    allowed = {method for method, of in operations() if of == path}
    for method in sorted(METHODS - allowed):
        answer = httpx.request(method, server.url + path)
        assert answer.status_code == 405
        assert set(answer.headers["allow"].split(", ")) - {"HEAD"} == allowed
        is_refusal(answer)


@pytest.mark.parametrize("path", ["/v1", "/v1/auth/session/", "/v1/auth%2fsession", "/openapi.json%0a", "/docs"])
def test_another_path_is_refused(server: Server, path: str) -> None:
    answer = httpx.get(server.url + path)
    assert answer.status_code == 404
    is_refusal(answer)


@pytest.mark.parametrize("path", [path for method, path in operations() if method == "GET"])
def test_head_is_answered_as_get_is(server: Server, clerk: Clerk, path: str) -> None:
    headers = bearer(clerk, "user_head")
    get, head = (httpx.request(method, server.url + path, headers=headers) for method in ("GET", "HEAD"))
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert head.headers["content-type"] == get.headers["content-type"]


NOWHERE = "127.0.0.1:9"
"""Discard: nobody listens there."""
READY, READ, LOGOUT, EVERYWHERE = ("GET", "/readyz"), ("GET", SESSION), ("DELETE", SESSION), ("DELETE", SESSIONS)
NO_CLERK, NO_LIST = {"CLERK_API_URL": f"http://{NOWHERE}"}, {"REVOCATIONS_URL": f"redis://{NOWHERE}/0"}
MISSING = {
    "Clerk": (NO_CLERK, {EVERYWHERE: 503}),
    "keys": (NO_CLERK | {"CLERK_JWT_KEY": ""}, {READY: 503, READ: 503, LOGOUT: 200, EVERYWHERE: 503}),
    "list": (NO_LIST, {READ: 503, LOGOUT: 200, READY: 200}),
    "list, and open": (NO_LIST | {"REVOCATIONS_FAIL": "open"}, {READ: 200}),
    "secrets": ({"CLERK_SECRET_KEY": ""}, {EVERYWHERE: 501, ("POST", WEBHOOK): 501}),
    "fresh proof": ({"REVERIFICATION_MAX_AGE_MINUTES": "10"}, {EVERYWHERE: 403}),
}


@pytest.mark.parametrize(("settings", "expected"), MISSING.values(), ids=MISSING)
def test_what_is_missing_is_told(clerk: Clerk, settings: dict[str, str], expected: dict[tuple[str, str], int]) -> None:
    with serve(settings=clerk.settings() | settings) as server:
        for (method, path), status in expected.items():
            answer = call(server, method, path, status, headers=bearer(clerk, "user_missing"))
            assert status == 200 or path == "/readyz" or is_shown(answer, method, path)


def test_a_session_that_clerk_does_not_end_is_counted(server: Server, clerk: Clerk) -> None:
    clerk.stuck.add("revoke")
    said = call(server, "DELETE", SESSIONS, 502, headers=bearer(clerk, "user_stuck")).json()
    clerk.stuck.clear()
    assert (said["revoked_sessions"], said["failed_sessions"]) == (0, 1)
    (shown,) = examples("DELETE", SESSIONS, 502)
    assert (said["message"], said["reason"]) == (shown["message"], shown["reason"])


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("GET", SESSION, 401, b""),
        ("DELETE", SESSIONS, 401, b""),
        ("POST", WEBHOOK, 400, b"{}"),
        ("POST", WEBHOOK, 413, b" " * 262_145),
    ],
)
def test_what_is_not_proven_is_refused(server: Server, method: str, path: str, status: int, body: bytes) -> None:
    assert is_shown(call(server, method, path, status, content=body), method, path)


def test_a_user_is_refused_as_the_document_shows(server: Server, clerk: Clerk) -> None:
    """For an unknown scope or parameter, and for a token that is signed out."""
    headers = bearer(clerk, "user_out")
    for query in ("scope=mine", "scop=others"):
        assert is_shown(call(server, "DELETE", f"{SESSIONS}?{query}", 400, headers=headers), "DELETE", SESSIONS)
    call(server, "DELETE", SESSION, 200, headers=headers)
    assert is_shown(call(server, "GET", SESSION, 401, headers=headers), "GET", SESSION)

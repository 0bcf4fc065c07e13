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
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

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


def hold(method: str, path: str, answer: httpx.Response) -> None:
    """Hold an answer to the document, with schemathesis's own checks."""
    checks = [
        status_code_conformance,
        content_type_conformance,
        response_headers_conformance,
        response_schema_conformance,
    ]
    API[path][method].Case().validate_response(answer, checks=checks)


@pytest.mark.parametrize("path", document()["paths"])
def test_another_method_is_refused_as_the_document_says(server: Server, path: str) -> None:
    allowed = {method for method, of in operations() if of == path}
    for method in sorted(METHODS - allowed):
        answer = httpx.request(method, server.url + path)
        assert answer.status_code == 405
        assert set(answer.headers["allow"].split(", ")) - {"HEAD"} == allowed
        is_refusal(answer)


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/auth/session/", "/healthz/", "/openapi.json%0a", "/docs"])
def test_another_path_is_refused_as_the_document_says(server: Server, path: str) -> None:
    answer = httpx.get(server.url + path)
    assert answer.status_code == 404
    is_refusal(answer)


@pytest.mark.parametrize("path", [path for method, path in operations() if method == "GET"])
def test_head_is_answered_as_get_is(server: Server, clerk: Clerk, path: str) -> None:
    headers = {"Authorization": f"Bearer {clerk.token('user_head')}"}
    get, head = (httpx.request(method, server.url + path, headers=headers) for method in ("GET", "HEAD"))
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert head.headers["content-type"] == get.headers["content-type"]


def is_refusal(answer: httpx.Response) -> None:
    validator(document()["components"]["schemas"]["Refusal"]).validate(answer.json())
    assert len(answer.headers.get_list("x-request-id")) == 1
    assert answer.headers.get_list("cache-control") == ["no-store"]
    assert answer.headers.get_list("x-content-type-options") == ["nosniff"]


NOWHERE = "127.0.0.1:9"
"""Discard: nobody listens there."""
NO_KEYS = {"CLERK_JWT_KEY": "", "CLERK_API_URL": f"http://{NOWHERE}"}
NO_LIST = {"REVOCATIONS_URL": f"redis://{NOWHERE}/0"}


@pytest.mark.parametrize(
    ("settings", "method", "path", "status"),
    [
        pytest.param(NO_KEYS, "GET", "/readyz", 503, id="not ready without keys"),
        pytest.param(NO_KEYS, "GET", "/v1/auth/session", 503, id="nobody can verify"),
        pytest.param(NO_KEYS, "DELETE", "/v1/auth/session", 200, id="a logout is 200 without keys"),
        pytest.param(NO_KEYS, "DELETE", "/v1/auth/sessions", 503, id="nobody can verify who is everywhere"),
        pytest.param(NO_LIST, "GET", "/v1/auth/session", 503, id="nobody knows whether it is signed out"),
        pytest.param(NO_LIST, "DELETE", "/v1/auth/session", 200, id="a logout is 200 without the list"),
        pytest.param(NO_LIST, "GET", "/readyz", 200, id="ready without the list"),
        pytest.param(
            {"REVOCATIONS_FAIL": "open"} | NO_LIST, "GET", "/v1/auth/session", 200, id="open without the list"
        ),
        pytest.param({"CLERK_SECRET_KEY": ""}, "DELETE", "/v1/auth/sessions", 501, id="no secret key"),
        pytest.param(
            {"CLERK_API_URL": f"http://{NOWHERE}"}, "DELETE", "/v1/auth/sessions", 503, id="Clerk is not reached"
        ),
        pytest.param({"CLERK_WEBHOOK_SIGNING_SECRET": ""}, "POST", WEBHOOK, 501, id="no signing secret"),
    ],
)
def test_what_is_missing_is_answered_as_the_document_says(
    clerk: Clerk, settings: dict[str, str], method: str, path: str, status: int
) -> None:
    headers = {"Authorization": f"Bearer {clerk.token('user_missing')}"}
    with serve(settings=clerk.settings() | settings) as server:
        answer = httpx.request(method, server.url + path, headers=headers, timeout=TIMEOUT)
    assert answer.status_code == status
    hold(method, path, answer)
    if status >= 500 and path != "/readyz":
        assert answer.json() in examples(method, path, status)


def test_an_old_proof_is_answered_in_clerks_form(clerk: Clerk) -> None:
    session = clerk.instance.sign_in("user_old")
    session.created_at -= 3_600_000
    headers = {"Authorization": f"Bearer {clerk.instance.session_token(session, ORIGIN)}"}
    with serve(settings=clerk.settings() | {"REVERIFICATION_MAX_AGE_MINUTES": "10"}) as server:
        answer = httpx.delete(f"{server.url}/v1/auth/sessions", headers=headers, timeout=TIMEOUT)
    assert answer.status_code == 403
    assert answer.json()["clerk_error"]["metadata"]["reverification"]["afterMinutes"] == 10
    hold("DELETE", "/v1/auth/sessions", answer)
    assert answer.json() in examples("DELETE", "/v1/auth/sessions", 403)


def test_a_session_that_clerk_does_not_end_is_counted_as_the_document_says(server: Server, clerk: Clerk) -> None:
    headers = {"Authorization": f"Bearer {clerk.token('user_stuck')}"}
    stuck = clerk.instance.sign_in("user_stuck").id
    clerk.stuck.add(stuck)
    answer = httpx.delete(f"{server.url}/v1/auth/sessions", headers=headers, timeout=TIMEOUT)
    clerk.stuck.remove(stuck)
    assert answer.status_code == 502
    assert (answer.json()["revoked_sessions"], answer.json()["failed_sessions"]) == (0, 2)
    (shown,) = examples("DELETE", "/v1/auth/sessions", 502)
    assert answer.json()["message"] == shown["message"]
    assert answer.json()["reason"] == shown["reason"]
    hold("DELETE", "/v1/auth/sessions", answer)


@pytest.mark.parametrize("query", ["scope=mine", "scop=others"])
def test_an_unknown_scope_or_parameter_is_answered_as_the_document_says(
    server: Server, clerk: Clerk, query: str
) -> None:
    headers = {"Authorization": f"Bearer {clerk.token('user_scope')}"}
    answer = httpx.delete(f"{server.url}/v1/auth/sessions?{query}", headers=headers, timeout=TIMEOUT)
    assert answer.status_code == 400
    assert answer.json() in examples("DELETE", "/v1/auth/sessions", 400)
    hold("DELETE", "/v1/auth/sessions", answer)


def test_a_webhook_that_is_too_large_is_refused_as_the_document_says(server: Server) -> None:
    answer = httpx.post(server.url + WEBHOOK, content=b" " * 262_145, timeout=TIMEOUT)
    assert answer.status_code == 413
    hold("POST", WEBHOOK, answer)
    assert answer.json() in examples("POST", WEBHOOK, 413)


def test_a_webhook_that_is_not_signed_is_refused_as_the_document_says(server: Server) -> None:
    answer = httpx.post(server.url + WEBHOOK, content=b"{}", timeout=TIMEOUT)
    assert answer.status_code == 400
    hold("POST", WEBHOOK, answer)
    assert answer.json() in examples("POST", WEBHOOK, 400)


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/auth/session"), ("DELETE", "/v1/auth/sessions")])
def test_a_call_without_a_token_is_refused_as_the_document_says(server: Server, method: str, path: str) -> None:
    answer = httpx.request(method, server.url + path, timeout=TIMEOUT)
    assert answer.status_code == 401
    hold(method, path, answer)
    assert answer.json() in examples(method, path, 401)


def test_a_signed_out_token_is_refused_as_the_document_says(server: Server, clerk: Clerk) -> None:
    headers = {"Authorization": f"Bearer {clerk.token('user_out')}"}
    url = f"{server.url}/v1/auth/session"
    assert httpx.delete(url, headers=headers, timeout=TIMEOUT).status_code == 200
    answer = httpx.get(url, headers=headers, timeout=TIMEOUT)
    assert answer.status_code == 401
    hold("GET", "/v1/auth/session", answer)
    assert answer.json() in examples("GET", "/v1/auth/session", 401)

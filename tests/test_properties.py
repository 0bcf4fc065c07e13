"""Whatever bytes arrive: 200, and exactly one line that holds to its schema."""

import asyncio
import json
import time
from typing import Any

import hypothesis
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import OpenClient
from tests.support.lines import EventFile
from tests.support.signing import ORIGIN, b64url, claims, header, token_of

_anything = st.binary(max_size=60)


def _mutated(good: bytes) -> st.SearchStrategy[bytes]:
    """Good bytes with a few of them replaced, removed or put in between."""
    return st.builds(
        lambda start, removed, added: good[:start] + added + good[start + removed :],
        st.integers(0, len(good)),
        st.integers(0, 2),
        st.binary(max_size=2),
    )


# --- Tokens ----------------------------------------------------------------------------------------------------------

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["id", "sub", "é"]), inner, max_size=2),
    max_leaves=3,
).map(lambda value: json.dumps(value).encode())
_odd_json = st.sampled_from(
    [b"1e999", b"-1e999", b"1e308", b"9" * 400, b"NaN", b"-0", b'"\\ud800"', b'"\xff"', b"[" * 1100 + b"]" * 1100, b"{"]
)


def _object(good: dict[str, Any], *others: str) -> st.SearchStrategy[bytes]:
    """A good object with a member or two replaced or added: any JSON, or what only looks like JSON."""
    members = {name: json.dumps(value).encode() for name, value in good.items()}
    changes = st.dictionaries(st.sampled_from([*good, *others]), _json | _odd_json, max_size=2)
    return changes.map(lambda changed: b"{%s}" % b",".join(map(_member, (members | changed).items())))


def _member(member: tuple[str, bytes]) -> bytes:
    return b'"%s":%s' % (member[0].encode(), member[1])


_now = int(time.time())
_claims = claims(now=_now, exp=_now + 3600, o={"id": "org_2abc"}, org_id="org_1abc", act={"sub": "user_2support"})
_good_header, _good_payload = orjson.dumps(header()), orjson.dumps(_claims)
_valid = token_of(_good_header, _good_payload).encode()

_payloads = st.one_of(_object(_claims, "aud"), _object(_claims | {"exp": _now - 60}), _mutated(_good_payload))
_headers = st.just(_good_header) | _object(header(), "crit", "b64", "jwk", "zip")
_signed = st.builds(lambda head, payload: token_of(head, payload).encode(), _headers, _payloads)
_unsigned = st.builds(lambda *parts: ".".join(map(b64url, parts)).encode(), _headers, _payloads, _anything)
_odd = st.sampled_from([b"", b".", b"..", b"ak_x", b"a" * 8193, _valid + b"=", _valid.replace(b".", b".."), _valid])
_tokens = st.one_of(_signed, _signed, _signed, _unsigned, _mutated(_valid), _anything, _odd)

# --- Requests --------------------------------------------------------------------------------------------------------


def _named(name: bytes, *values: st.SearchStrategy[bytes]) -> st.SearchStrategy[tuple[bytes, bytes]]:
    return st.tuples(st.just(name), st.one_of(values))


_bearers = st.builds(bytes.__add__, st.sampled_from([b"Bearer ", b"bearer  ", b"BEARER ", b"Basic "]), _tokens)
_cookie = st.builds(
    lambda name, value: name + b"=" + value,
    st.sampled_from([b"__session", b"__session_1a2B3c4D", b"theme"]) | _mutated(b"__session_1a2B3c4D"),
    _tokens,
)
_credentials = st.one_of(
    _named(b"authorization", _bearers, _bearers, _bearers, _anything),
    _named(b"cookie", _cookie, st.lists(_cookie, min_size=2, max_size=3).map(b"; ".join), _anything),
)
_surroundings = st.one_of(
    _named(b"x-request-id", _anything, st.binary(min_size=127, max_size=130), st.just(b"~" * 128)),
    _named(b"origin", _anything, _mutated(ORIGIN.encode()), st.just(ORIGIN.encode())),
    _named(b"traceparent", _anything, _mutated(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")),
    _named(b"user-agent", _anything, st.binary(min_size=250, max_size=300)),
)
_requests: st.SearchStrategy[list[tuple[bytes, bytes]]] = st.builds(
    list.__add__, st.lists(_credentials, min_size=1, max_size=2), st.lists(_surroundings, max_size=2)
)


async def test_whatever_arrives_is_200_and_one_line(
    open_client: OpenClient, events: EventFile, caplog: pytest.LogCaptureFixture
) -> None:
    loop = asyncio.get_running_loop()

    @hypothesis.settings(max_examples=6 * hypothesis.settings().max_examples)
    @given(_requests)
    def holds_for(headers: list[tuple[bytes, bytes]]) -> None:
        call = client.delete("/v1/auth/session", headers=headers)
        response = asyncio.run_coroutine_threadsafe(call, loop).result()
        assert response.status_code == 200
        assert not [value for pair in response.headers.raw for value in pair if set(value) & set(b"\r\n\0")]
        body = response.json()
        assert body.pop("event_id") == events.one()["event_id"]
        assert body == {"success": True, "message": "Logged out successfully", "recorded": True}
        assert caplog.messages == []

    async with open_client(event_client_ip=True, event_user_agent=True) as client:
        await asyncio.to_thread(holds_for)

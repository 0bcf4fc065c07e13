"""What counts as a token, and which cookies are reported."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.clerk.credentials import MAX_COOKIES, Credentials, read_credentials, session_cookies

SAFE_NAME = re.compile(r"__session(_[A-Za-z0-9_-]{1,64})?")
NOTHING = Credentials((), ())


Headers = dict[bytes, list[bytes]]


def authorization(*values: bytes) -> Headers:
    return {b"authorization": [*values]}


def cookies(*values: bytes) -> Headers:
    return {b"cookie": [*values]}


def test_a_request_without_credentials_has_none() -> None:
    assert read_credentials({}) == NOTHING


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"Bearer a.b.c", id="as in RFC 6750"),
        pytest.param(b"bearer a.b.c", id="lower case"),
        pytest.param(b"BEARER a.b.c", id="upper case"),
        pytest.param(b"bEaReR a.b.c", id="mixed case"),
        pytest.param(b"Bearer   a.b.c", id="several spaces"),
        pytest.param(b" \tBearer a.b.c \t", id="white space around"),
    ],
)
def test_a_bearer_header_is_the_token(value: bytes) -> None:
    assert read_credentials(authorization(value)).tokens == (b"a.b.c",)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"Bearer", id="bearer without a token"),
        pytest.param(b"Bearer  \t ", id="bearer with white space for a token"),
        *(
            pytest.param(b"Bearer " + written, id=f"bearer {written!r}")
            for written in (
                *(b"null", b"undefined", b"NULL", b"None", b"nil", b"NaN", b"false", b"true", b"0", b'""', b"''"),
                *(b'"null"', b"'undefined'", b"[object Object]", b"[object Promise]", b"[object Null]", b"null,"),
                *(b"null, Bearer undefined", b", Bearer"),
            )
        ),
        pytest.param(b"Basic a.b.c", id="basic"),
        pytest.param(b"Token a.b.c", id="token"),
        pytest.param(b"DPoP a.b.c", id="dpop"),
        pytest.param(b"Bearera.b.c", id="no space after the scheme"),
        pytest.param(b"Bearer\ta.b.c", id="a tab after the scheme"),
        pytest.param(b"a.b.c", id="no scheme"),
        pytest.param(b"\xffBearer a.b.c", id="a scheme that is not ASCII"),
    ],
)
def test_without_a_bearer_token_the_cookies_are_read(value: bytes) -> None:
    assert read_credentials(authorization(value)) == NOTHING
    assert read_credentials(authorization(value) | cookies(b"__session=from.the.cookie")).tokens == (
        b"from.the.cookie",
    )


def test_a_bearer_header_goes_before_cookies() -> None:
    headers = cookies(b"__session=from.the.cookie") | authorization(b"Bearer from.the.header")
    assert read_credentials(headers) == Credentials((b"from.the.header",), ("__session",))


def test_each_of_two_authorization_headers_is_a_candidate() -> None:
    assert read_credentials(authorization(b"Bearer a.a.a", b"Bearer b.b.b")).tokens == (b"a.a.a", b"b.b.b")


@pytest.mark.parametrize(
    ("value", "tokens"),
    [
        (b"Bearer a.b.c, Bearer d.e.f", (b"a.b.c", b"d.e.f")),
        (b"Bearer a.b.c,bearer d.e.f", (b"a.b.c", b"d.e.f")),
        (b"Bearer a.b.c, Bearer a.b.c", (b"a.b.c",)),
        (b"Bearer null, Bearer a.b.c", (b"a.b.c",)),
        (b"Basic dTpw, Bearer a.b.c", (b"a.b.c",)),
        (b"Bearer a.b.c, Basic dTpw", (b"a.b.c",)),
        (b"Bearer a.b.c,", (b"a.b.c",)),
        (b"Bearer nullable.b.c", (b"nullable.b.c",)),
        (b"Bearer garbage", (b"garbage",)),
    ],
)
def test_what_a_proxy_has_joined_from_two_headers_is_two_candidates(value: bytes, tokens: tuple[bytes, ...]) -> None:
    assert read_credentials(authorization(value)).tokens == tokens


@pytest.mark.parametrize("value", [b"null", b"undefined", b'"null"', b"[object Object]", b"false"])
def test_a_cookie_that_holds_no_token_is_none_but_is_reported(value: bytes) -> None:
    assert read_credentials(cookies(b"__session=" + value)) == Credentials((), ("__session",))


def test_with_a_publishable_key_only_our_cookies_are_looked_at_and_reported() -> None:
    """The suffix is the one that clerk-js makes of this key."""
    ours = session_cookies("pk_test_Y2xlcmsuZXhhbXBsZS5jb20k")
    header = b"__session=a.b.c; __session_l2OS3d9k=d.e.f; __session_zzzzzzzz=g.h.i; __session_l2OS3d9=j.k.l"
    assert read_credentials(cookies(header), ours) == Credentials(
        (b"a.b.c", b"d.e.f"), ("__session", "__session_l2OS3d9k")
    )
    assert read_credentials(authorization(b"Bearer x.y.z") | cookies(header), ours).tokens == (b"x.y.z",)
    assert len(read_credentials(cookies(header), session_cookies(None)).tokens) == 4


@pytest.mark.parametrize("name", ["__session", "__session_1a2B_-3c", "__session_x", "__session_" + "x" * 64])
def test_clerks_cookies_hold_the_token(name: str) -> None:
    assert read_credentials(cookies(name.encode() + b"=a.b.c")) == Credentials((b"a.b.c",), (name,))


@pytest.mark.parametrize(
    "name",
    [
        b"__sessio",
        b"_session",
        b"session",
        b"__Session",
        b"__SESSION",
        b"x__session",
        b"__sessionx",
        b"__session2",
        b"__session-abc",
        b"__session_",
        b"__session_" + b"x" * 65,
        b"__session_a.b",
        b"__session_\xc3\xa4",
        b"__session a",
        b"__session_a b",
        b"__session_\x00",
        b"__session\r\nSet-Cookie: x",
        b"__session_a\r\nSet-Cookie: x",
        b"__session_a\n",
        b"__session\n",
        b"\n__session",
        b"__session\x0b",
        b"__client_uat",
        b"__Host-__session",
    ],
    ids=repr,
)
def test_a_cookie_with_a_similar_name_is_ignored(name: bytes) -> None:
    assert read_credentials(cookies(name + b"=a.b.c")) == NOTHING


@pytest.mark.parametrize(
    "neighbour",
    [
        pytest.param(b"a,b=1", id="a comma in a name"),
        pytest.param(b'prefs={"a":1}', id="JSON"),
        pytest.param(b'prefs="', id="an open quote"),
        pytest.param(b"flag", id="no equals sign"),
        pytest.param(b"__session", id="our own name without a value"),
        pytest.param(b"", id="empty"),
        pytest.param(b"=", id="only an equals sign"),
        pytest.param(b"=value", id="no name"),
        pytest.param(b"a=b=c", id="two equals signs"),
        pytest.param(b"na\xefve=\xff\xfe", id="not ASCII"),
        pytest.param(b"nul=\x00", id="a control character"),
        pytest.param(b"expires=Thu, 01 Jan 1970 00:00:00 GMT", id="a date"),
        pytest.param(b"$Version=1", id="RFC 2109"),
    ],
)
def test_an_odd_cookie_beside_it_does_not_hide_the_session(neighbour: bytes) -> None:
    expected = Credentials((b"a.b.c",), ("__session",))
    assert read_credentials(cookies(neighbour + b"; __session=a.b.c")) == expected
    assert read_credentials(cookies(b"__session=a.b.c;" + neighbour)) == expected


@pytest.mark.parametrize(
    ("value", "token"),
    [
        pytest.param(b'"a.b.c"', b"a.b.c", id="quoted"),
        pytest.param(b' "a.b.c"\t', b"a.b.c", id="quoted with white space around"),
        pytest.param(b'"a.b.c', b'"a.b.c', id="only opened"),
        pytest.param(b"a.b.c==", b"a.b.c==", id="equals signs in the value"),
        pytest.param(b" a.b.c ", b"a.b.c", id="white space around"),
    ],
)
def test_quotes_and_white_space_around_a_cookie_value_are_dropped(value: bytes, token: bytes) -> None:
    assert read_credentials(cookies(b"__session=" + value)).tokens == (token,)


@pytest.mark.parametrize("value", [b"", b'""', b"  "], ids=repr)
def test_an_empty_session_cookie_is_no_token_but_is_reported(value: bytes) -> None:
    assert read_credentials(cookies(b"__session=" + value)) == Credentials((), ("__session",))


def test_cookies_are_read_from_every_cookie_header() -> None:
    """HTTP/2 may split them (RFC 9113, section 8.2.3)."""
    assert read_credentials(cookies(b"a=1", b"__session=a.b.c", b"__session_x=d.e.f")) == Credentials(
        (b"a.b.c", b"d.e.f"), ("__session", "__session_x")
    )


def test_a_name_sent_twice_gives_both_values_and_is_reported_once() -> None:
    """Browsers send one per path and domain, the more specific first (RFC 6265, section 5.4)."""
    assert read_credentials(cookies(b"__session=a.b.c; __session=d.e.f")) == Credentials(
        (b"a.b.c", b"d.e.f"), ("__session",)
    )


def test_a_value_sent_twice_is_one_candidate() -> None:
    assert read_credentials(cookies(b"__session=a.b.c; __session_x=a.b.c")).tokens == (b"a.b.c",)


def test_the_session_is_found_among_200_cookies() -> None:
    header = b"; ".join([*(b"c%d=v%d" % (number, number) for number in range(200)), b"__session=a.b.c"])
    assert read_credentials(cookies(header)) == Credentials((b"a.b.c",), ("__session",))


def test_the_number_of_reported_cookies_is_bounded() -> None:
    header = b";".join(b"__session_%d=" % number for number in range(MAX_COOKIES + 100))
    assert len(read_credentials(cookies(header)).cookies) == MAX_COOKIES == 256


_hostile = st.one_of(
    st.binary(max_size=80),
    st.lists(
        st.sampled_from(
            [b"__session", b"_abc", b"=", b";", b" ", b'"', b"\r\n", b"\x00", b"Bearer ", b"a.b.c", b"\xff"]
        ),
        max_size=12,
    ).map(b"".join),
)


@given(st.dictionaries(st.sampled_from([b"authorization", b"cookie"]), st.lists(_hostile, max_size=4)))
def test_no_bytes_raise_and_every_reported_name_is_safe_to_send_back(headers: Headers) -> None:
    credentials = read_credentials(headers)
    assert all(SAFE_NAME.fullmatch(name) for name in credentials.cookies)
    assert all(credentials.tokens)

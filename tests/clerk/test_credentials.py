"""What counts as a token, and which cookies are reported."""

import pytest

from service.clerk.credentials import MAX_COOKIES, Credentials, read_credentials, session_cookies

NOTHING = Credentials((), ())


Headers = dict[bytes, list[bytes]]


def authorization(*values: bytes) -> Headers:
    return {b"authorization": [*values]}


def cookies(*values: bytes) -> Headers:
    return {b"cookie": [*values]}


@pytest.mark.parametrize("value", [b"Bearer a.b.c", b"bEaReR a.b.c", b"Bearer   a.b.c", b" \tBearer a.b.c \t"])
def test_a_bearer_header_is_the_token(value: bytes) -> None:
    assert read_credentials(authorization(value)).tokens == (b"a.b.c",)


NO_TOKEN = (b"", b" \t ", b"NULL", b"0", b'""', b"'undefined'", b"[object Promise]", b"null,")
OTHER_SCHEMES = (b"", b"Basic a.b.c", b"Bearera.b.c", b"Bearer\ta.b.c", b"a.b.c", b"\xffBearer a.b.c", b", Bearer")


@pytest.mark.parametrize("value", [*(b"Bearer " + value for value in NO_TOKEN), *OTHER_SCHEMES])
def test_without_a_bearer_token_the_cookies_are_read(value: bytes) -> None:
    assert read_credentials(authorization(value)) == read_credentials({}) == NOTHING
    assert read_credentials(authorization(value) | cookies(b"__session=a.b.c")).tokens == (b"a.b.c",)


def test_a_bearer_header_goes_before_cookies() -> None:
    headers = cookies(b"__session=from.the.cookie") | authorization(b"Bearer from.the.header")
    assert read_credentials(headers) == Credentials((b"from.the.header",), ("__session",))


@pytest.mark.parametrize(
    ("value", "tokens"),
    [
        (b"Bearer a.b.c,bearer d.e.f", (b"a.b.c", b"d.e.f")),
        (b"Bearer a.b.c, Bearer a.b.c", (b"a.b.c",)),
        (b"Basic dTpw, Bearer nullable.b.c", (b"nullable.b.c",)),
    ],
)
def test_each_of_two_headers_is_a_candidate_also_joined(value: bytes, tokens: tuple[bytes, ...]) -> None:
    """As a proxy joins them."""
    assert read_credentials(authorization(value)).tokens == tokens
    assert read_credentials(authorization(*value.split(b","))).tokens == tokens


@pytest.mark.parametrize("value", [b'"null"', b"[object Object]", b"", b"  "], ids=repr)
def test_a_cookie_that_holds_no_token_is_none_but_is_reported(value: bytes) -> None:
    assert read_credentials(cookies(b"__session=" + value)) == Credentials((), ("__session",))


def test_with_a_publishable_key_only_our_cookies_are_looked_at() -> None:
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
        *(b"__Session", b"x__session", b"__sessionx", b"__session_", b"__session_" + b"x" * 65, b"__session_a.b"),
        *(b"__session_\xc3\xa4", b"__session_a\r\nSet-Cookie: x", b"\n__session", b"__Host-__session"),
    ],
    ids=repr,
)
def test_a_cookie_with_a_similar_name_is_ignored(name: bytes) -> None:
    assert read_credentials(cookies(name + b"=a.b.c")) == NOTHING


@pytest.mark.parametrize(
    "neighbour",
    [b'prefs={"a":1, "b', b"flag", b"__session", b"", b"=", b"a=b=c", b"na\xefve=\xff\x00", b"; ".join([b"c=v"] * 200)],
)
def test_an_odd_cookie_beside_it_does_not_hide_the_session(neighbour: bytes) -> None:
    expected = Credentials((b"a.b.c",), ("__session",))
    assert read_credentials(cookies(neighbour + b"; __session=a.b.c")) == expected
    assert read_credentials(cookies(b"__session=a.b.c;" + neighbour)) == expected


@pytest.mark.parametrize(
    ("value", "token"),
    [(b' "a.b.c"\t', b"a.b.c"), (b'"a.b.c', b'"a.b.c'), (b"a.b.c==", b"a.b.c=="), (b" a.b.c ", b"a.b.c")],
)
def test_quotes_and_white_space_around_a_cookie_value_are_dropped(value: bytes, token: bytes) -> None:
    assert read_credentials(cookies(b"__session=" + value)).tokens == (token,)


def test_cookies_are_read_from_every_cookie_header() -> None:
    """HTTP/2 may split them (RFC 9113, section 8.2.3)."""
    assert read_credentials(cookies(b"a=1", b"__session=a.b.c", b"__session_x=d.e.f")) == Credentials(
        (b"a.b.c", b"d.e.f"), ("__session", "__session_x")
    )


def test_a_name_sent_twice_gives_both_values_and_is_reported_once() -> None:
    """Browsers send one per path and domain, the more specific first (RFC 6265, section 5.4)."""
    header = b"__session=a.b.c; __session=d.e.f; __session=a.b.c"
    assert read_credentials(cookies(header)) == Credentials((b"a.b.c", b"d.e.f"), ("__session",))


def test_the_number_of_reported_cookies_is_bounded() -> None:
    header = b";".join(b"__session_%d=" % number for number in range(MAX_COOKIES + 100))
    assert len(read_credentials(cookies(header)).cookies) == MAX_COOKIES == 256

from typing import Any

import pytest

from service.events.request import read_head


def scope(*headers: tuple[bytes, bytes], client: object = ("203.0.113.77", 51234)) -> dict[str, Any]:
    return {"type": "http", "headers": [*headers], "client": client}


def test_the_values_of_a_header_stand_together_in_their_order() -> None:
    head = read_head(scope((b"cookie", b"a=1"), (b"host", b"service"), (b"cookie", b"b=2")))
    assert head.headers == {b"cookie": [b"a=1", b"b=2"], b"host": [b"service"]}


@pytest.mark.parametrize("client", [("203.0.113.77", 51234), None])
def test_the_peer_is_what_the_server_tells(client: tuple[str, int] | None) -> None:
    assert read_head(scope(client=client)).peer == (client and client[0])


@pytest.mark.parametrize("sent", [b"r", b"!~" * 64])
def test_a_usable_request_id_is_the_callers(sent: bytes) -> None:
    assert read_head(scope((b"x-request-id", sent), (b"x-request-id", b"second"))).request_id == sent.decode()


@pytest.mark.parametrize("sent", [b"", b"a b", b"a\nb", b"a" * 129, b"\xff"])
def test_another_request_id_is_replaced_by_a_new_one(sent: bytes) -> None:
    first, second = (read_head(scope((b"x-request-id", sent))).request_id for _ in range(2))
    assert len(first) == len(second) == 36
    assert first < second, "a UUIDv7"

"""A request's headers, as ASGI gives them."""

from collections.abc import Iterable

Headers = Iterable[tuple[bytes, bytes]]
"""Names in lower case, with their values; a name may come several times."""


def values_of(name: bytes, headers: Headers) -> list[bytes]:
    """Give all values of one name, in the order in which they were sent.

    Starlette's ``Headers`` encodes and decodes each time it is asked: three questions cost as much as ten of these.
    """
    return [value for each, value in headers if each == name]

"""A request's headers, as ASGI gives them."""

from collections.abc import Iterable

Headers = Iterable[tuple[bytes, bytes]]
"""Names in lower case, with their values; a name may come several times."""


def values_of(name: bytes, headers: Headers) -> list[bytes]:
    """Give all values of one name, in the order in which they were sent."""
    return [value for each, value in headers if each == name]


def first_values(headers: Headers) -> dict[bytes, bytes]:
    """Give the first value of each name. Starlette's ``Headers`` decodes one after the other each time it is asked."""
    return dict(reversed([*headers]))

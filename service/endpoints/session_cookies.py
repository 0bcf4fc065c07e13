"""The browser's session cookies, expired."""

from collections.abc import Iterable

from starlette.responses import Response


def expired(names: Iterable[str]) -> list[tuple[bytes, bytes]]:
    """Give the headers that have the browser forget cookies.

    Args:
        names: of the session cookies that the request carried.
    """
    return [(b"set-cookie", f"{name}=; Max-Age=0; Path=/".encode("ascii")) for name in names]


def expire(response: Response, names: Iterable[str]) -> None:
    """Add them to a response."""
    response.raw_headers += expired(names)

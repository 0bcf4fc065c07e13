"""The browser's session cookies, expired."""

from collections.abc import Iterable

from starlette.responses import Response


def expire(response: Response, names: Iterable[str]) -> None:
    """Have the browser forget cookies.

    Args:
        response: tells it.
        names: of the session cookies that the request carried.
    """
    for name in names:
        response.headers.append("set-cookie", f"{name}=; Max-Age=0; Path=/")

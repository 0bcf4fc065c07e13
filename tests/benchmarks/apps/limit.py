"""The limit: a bare ASGI app that verifies one RSA signature and does nothing else. No claim is looked at.

It has no log; how many signatures were good is asked for at ``/verified``.
"""

import base64
import os

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from starlette.types import Receive, Scope, Send

EVENT_ID = "01a1fd83-03f2-7493-8e87-e386e3d3fe4d"
ANSWER = f'{{"success":true,"message":"Logged out successfully","event_id":"{EVENT_ID}","recorded":true}}'.encode()
"""As long as the service's."""

_key = load_pem_public_key(os.environ["CLERK_JWT_KEY"].encode())
assert isinstance(_key, RSAPublicKey)
KEY = _key
PADDING, HASH = PKCS1v15(), SHA256()

verified = 0


def signature_is_good(headers: list[tuple[bytes, bytes]]) -> bool:
    """Say whether the bearer token's signature is Clerk's."""
    token = next(value for name, value in headers if name == b"authorization").removeprefix(b"Bearer ")
    signed, _, signature = token.rpartition(b".")
    try:
        KEY.verify(base64.urlsafe_b64decode(signature + b"=="), signed, PADDING, HASH)
    except InvalidSignature:
        return False
    return True


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer 200 or 401 with JSON; nothing is read from the request's body."""
    global verified  # noqa: PLW0603 - a count is all that this application keeps
    del receive
    assert scope["type"] == "http"
    body, status = ANSWER, 200
    if scope["path"] == "/verified":
        body = b"%d" % verified
    elif signature_is_good(scope["headers"]):
        verified += 1
    else:
        status = 401
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

"""What is wrong with Redis, in words for an operator."""

import os
import socket
import ssl

from redis import exceptions

from service.telemetry.diagnostics import where

NOT_REDIS = "what answers there is not Redis, or not as Redis does"
_DESCRIPTIONS: tuple[tuple[type[Exception], str], ...] = (
    (exceptions.BusyLoadingError, "it is still loading its data"),
    (exceptions.AuthenticationError, "it does not accept the user name or the password in REVOCATIONS_URL"),
    (exceptions.NoPermissionError, "its user may not run EVAL, GET, PTTL and SET on clerk-logout:*"),
    (exceptions.ReadOnlyError, "it is a replica, which takes no writes"),
    (exceptions.OutOfMemoryError, "it has no memory left"),
    (exceptions.TimeoutError, "it did not answer in time"),
    (exceptions.ResponseError, "it refused a command"),
    (socket.gaierror, "its host name cannot be resolved"),
    (ssl.SSLError, "TLS with it failed; look at the certificates, and whether it speaks TLS at all"),
    (OSError, "it cannot be reached"),
    (exceptions.InvalidResponse, NOT_REDIS),
    (exceptions.ConnectionError, "the connection to it was lost"),
    (ValueError, NOT_REDIS),
)
"""The first that fits. What the server said is not shown: it may quote what it was sent."""
_DESCRIPTIONS_BY_TEXT = {
    "The user executing the script": _DESCRIPTIONS[2][1],
    "ACL failure in script": _DESCRIPTIONS[2][1],
    "DB index is out of range": "it does not have the database whose number REVOCATIONS_URL names",
    "max number of clients reached": "it has as many clients as it allows",
}
"""By how the error starts, for those that have no class of their own."""


def describe_error(error: BaseException) -> str:
    """Say in one line without a secret what an error of redis-py means, or of the network below it."""
    for text, description in _DESCRIPTIONS_BY_TEXT.items():
        if str(error).startswith(text):
            return description
    if isinstance(error, exceptions.ConnectionError) and isinstance(error.__context__, OSError):
        error = error.__context__  # redis-py wraps the operating system's, which says more
    description = next((words for kind, words in _DESCRIPTIONS if isinstance(error, kind)), None) or where(error)
    if type(error) is exceptions.ResponseError and (code := str(error).partition(" ")[0]).isalpha() and code.isupper():
        return f"{description} ({code})"
    if isinstance(error, OSError) and description == "it cannot be reached" and error.errno:
        return f"{description}: {os.strerror(error.errno).lower()}"
    return description

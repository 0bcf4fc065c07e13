"""What is wrong with Redis, in words for an operator."""

import os
import socket
import ssl

from redis import exceptions

from service.telemetry.diagnostics import where

_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (exceptions.BusyLoadingError, "it is still loading its data"),
    (exceptions.AuthenticationError, "it does not accept the user name or the password in REVOCATIONS_URL"),
    (
        exceptions.NoPermissionError,
        "its user may not run EVAL, GET, MGET, SET, PTTL and TIME on keys that start with clerk-logout:",
    ),
    (exceptions.ReadOnlyError, "it is a replica, which takes no writes"),
    (exceptions.OutOfMemoryError, "it has no memory left"),
    (exceptions.InvalidResponse, "what answers there is not Redis"),
    (socket.gaierror, "its host name cannot be resolved"),
    (UnicodeError, "its host name cannot be resolved"),
    (ssl.SSLError, "TLS with it failed; look at its certificate, and whether it speaks TLS at all"),
    (ValueError, "what answers there is not Redis"),
)
"""The first that fits. What the server said is not shown: it may quote what it was sent."""
_SAID = {
    "DB index is out of range": "it does not have the database whose number REVOCATIONS_URL names",
    "max number of clients reached": "it has as many clients as it allows",
}
"""For errors that have no class of their own."""


def in_words(error: BaseException) -> str:
    """Say in one line without a secret what an error of redis-py or of the network means."""
    # redis-py makes its own error of the operating system's, which is the one that says something.
    if type(error) is exceptions.ConnectionError and isinstance(error.__context__, OSError):
        error = error.__context__
    for kind, words in _WORDS:
        if isinstance(error, kind):
            return words
    if isinstance(error, OSError):
        return f"it cannot be reached: {os.strerror(error.errno).lower()}" if error.errno else "it cannot be reached"
    if isinstance(error, exceptions.RedisError) and str(error) in _SAID:
        return _SAID[str(error)]
    if isinstance(error, exceptions.ResponseError):
        code = str(error).partition(" ")[0]
        return f"it refused a command ({code})" if code.isalpha() and code.isupper() else "it refused a command"
    if isinstance(error, exceptions.ConnectionError):
        return "the connection to it was lost"
    return where(error)

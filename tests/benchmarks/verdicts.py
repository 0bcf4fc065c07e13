"""What a contender has said about the tokens it was sent, by its own log or count."""

import http.client
import os
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

QUIET = 0.15
"""Seconds without a new verdict from a contender that is idle, after which the last one is in."""
TIMEOUT = 10
"""Seconds after which verdicts that have not come are missing."""

_auth = re.compile(rb'"auth": ?"(\w+)"')
_verified_user = re.compile(rb'"auth": ?"verified"[^\n]*?"user_id": ?"([^"]+)"')


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What was said.

    Attributes:
        said: how often each verdict.
        users: whose sessions were said to be verified, and how often; None where that is not told.
    """

    said: Counter[str]
    users: Counter[str] | None = field(default_factory=Counter)


class Ledger(Protocol):
    """Where a contender's verdicts are found."""

    def take(self, at_least: int = 0) -> Verdicts:
        """Give those since the last time, when no more are coming; so many are waited for."""
        ...


class LogFile:
    """A log with one JSON line a verdict. It is emptied each time, so whoever writes it must append."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def take(self, at_least: int = 0) -> Verdicts:
        """Give the verdicts in it."""
        _settled(lambda: self.path.read_bytes().count(b"\n"), at_least)
        content = self.path.read_bytes()
        os.truncate(self.path, 0)
        return read(content)


def read(lines: bytes) -> Verdicts:
    """Read log lines, whoever wrote them: each has ``auth``, then, where it is verified, ``user_id``."""
    return Verdicts(
        Counter(auth.decode() for auth in _auth.findall(lines)),
        Counter(user.decode() for user in _verified_user.findall(lines)),
    )


class Count:
    """A count that is asked for over HTTP, of verified ones only."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._taken = 0

    def take(self, at_least: int = 0) -> Verdicts:
        """Give how many have come."""
        total = _settled(self._total, self._taken + at_least)
        new, self._taken = total - self._taken, total
        return Verdicts(Counter(verified=new), None)

    def _total(self) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        connection.request("GET", "/verified")
        total = int(connection.getresponse().read())
        connection.close()
        return total


def _settled(count: Callable[[], int], at_least: int) -> int:
    deadline = time.monotonic() + TIMEOUT
    before = count()
    while True:
        time.sleep(QUIET)
        now = count()
        if now == before and (now >= at_least or time.monotonic() > deadline):
            return now
        before = now

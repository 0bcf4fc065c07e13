"""What a contender said about the tokens it was sent. One that answers without verifying is worth nothing."""

import http.client
import os
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Protocol

from tests.benchmarks import load
from tests.benchmarks.load import LOGOUT, Answers

TIMEOUT = 10
"""Seconds after which verdicts that have not come are missing."""

_auth = re.compile(rb'"auth": ?"(\w+)"')
_verified_user = re.compile(rb'"auth": ?"verified"[^\n]*?"user_id": ?"([^"]+)"')


class WrongError(Exception):
    """A contender did not do what is measured; its figures would mean nothing."""


@dataclass(frozen=True, slots=True)
class Verdicts:
    """How often each verdict was said, and about which users ``verified`` (None where that is not told)."""

    said: Counter[str]
    users: Counter[str] | None = field(default_factory=Counter)


class Ledger(Protocol):
    """Where a contender's verdicts are found."""

    def take(self, at_least: int = 0) -> Verdicts:
        """Give those since the last time; so many are waited for."""
        ...


class LogFile:
    """A log with one JSON line a verdict. It is emptied each time, so whoever writes it must append."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def take(self, at_least: int = 0) -> Verdicts:
        deadline = time.monotonic() + TIMEOUT
        while (content := self.path.read_bytes()).count(b"\n") < at_least and time.monotonic() < deadline:
            time.sleep(0.05)
        os.truncate(self.path, 0)
        return read(content)


def read(lines: bytes) -> Verdicts:
    """Read log lines, whoever wrote them: each has ``auth``, then, where it is verified, ``user_id``."""
    return Verdicts(
        Counter(auth.decode() for auth in _auth.findall(lines)),
        Counter(user.decode() for user in _verified_user.findall(lines)),
    )


class Count:
    """A count that is asked for over HTTP, of verified ones only. It is complete: it grows before the answer."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._taken = 0

    def take(self, at_least: int = 0) -> Verdicts:
        del at_least
        _, body = get(self._port, "GET /verified")
        new, self._taken = int(body) - self._taken, int(body)
        return Verdicts(Counter(verified=new), None)


def get(port: int, line: str, token: str = "") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    method, path = line.split()
    connection.request(method, path, headers={"Authorization": f"Bearer {token}"} if token else {})
    response = connection.getresponse()
    answer = response.status, response.read()
    connection.close()
    return answer


def check_run(name: str, expected: str, answers: Answers, verdicts: Verdicts, connections: int) -> None:
    """Hold a run to its verdicts: one for each response, and for no more than the requests cut off by wrk's end."""
    check_answers(name, answers)
    said = verdicts.said[expected]
    if others := verdicts.said.total() - said:
        raise WrongError(f"{name}: {others} verdicts were not {expected}: {dict(verdicts.said)}")
    if not answers.responses <= said <= answers.responses + connections:
        raise WrongError(f"{name}: {answers.responses} responses, but {said} verdicts {expected}")
    if expected == "verified" and (users := verdicts.users) is not None:
        ours = {load.user_id(number) for number in range(load.USERS)}
        if strangers := set(users) - ours:
            raise WrongError(f"{name}: verified {len(strangers)} users who sent no token")
        if said >= 2 * len(ours) and (missing := ours - set(users)):
            raise WrongError(f"{name}: {len(missing)} of {len(ours)} users were never verified")


def check_suppressed(name: str, expected: str, answers: Answers, verdicts: Verdicts) -> None:
    """Hold a run to its verdicts where most get no line: those that are written say what is expected."""
    check_answers(name, answers)
    said = verdicts.said[expected]
    if said != verdicts.said.total() or said >= answers.responses:
        raise WrongError(f"{name}: {answers.responses} responses were to be suppressed: {dict(verdicts.said)}")


def check_answers(name: str, answers: Answers) -> None:
    if answers.not_ok or answers.unanswered:
        raise WrongError(f"{name}: {answers.not_ok} answers were not 200, {answers.unanswered} requests broke")
    if not answers.responses:
        raise WrongError(f"{name}: no answer at all")


def check_refusals(name: str, port: int, ledger: Ledger, *, expiry: bool = True, number: int = 0) -> None:
    """See that a running contender tells a good token from a forged and, where it looks at that, an expired one.

    ``number`` is which of the tokens of each kind to send: one that was never sent before is in nobody's memory.
    """
    for kind in ["verified", "rejected", *(["expired"] if expiry else [])]:
        good = kind == "verified"
        ledger.take()
        status, _ = get(port, LOGOUT, load.KINDS[kind]()[number])
        said = ledger.take(1 if status == HTTPStatus.OK else 0).said
        if (said["verified"] == 1) is not good or (status != 200 if good else status not in {200, 401}):
            raise WrongError(f"{name}: a token that is {kind} got {status}, and the verdicts {dict(said)}")


def check_guard(name: str, port: int, line: str) -> None:
    for kind, make in load.KINDS.items():
        status, _ = get(port, line, make()[0])
        if status != (200 if kind == "verified" else 401):
            raise WrongError(f"{name}: a token that is {kind} got {status}")

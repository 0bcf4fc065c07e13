"""What a contender said about the tokens it was sent. One that answers without verifying is worth nothing."""

import http.client
import os
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from tests.benchmarks import load
from tests.benchmarks.load import LOGOUT, Answers

TIMEOUT = 10
"""Seconds after which verdicts that have not come are missing."""

_auth = re.compile(r'"auth": ?"(\w+)"')
_verified_user = re.compile(r'"auth": ?"verified"[^\n]*?"user_id": ?"([^"]+)"')


class WrongError(Exception):
    """A contender did not do what is measured; its figures would mean nothing."""


@dataclass(frozen=True, slots=True)
class Verdicts:
    """How often each verdict was said, and about which users ``verified`` (None where that is not told)."""

    said: Counter[str]
    users: Counter[str] | None


Ledger = Callable[[int], Verdicts]
"""Gives a contender's verdicts since the last call; so many are waited for."""


def log_file(path: Path) -> Ledger:
    """Read a log, whoever writes it: each line has ``auth``, then, where it is verified, ``user_id``.

    It is emptied each time, so whoever writes it must append."""

    def take(at_least: int) -> Verdicts:
        deadline = time.monotonic() + TIMEOUT
        while (content := path.read_bytes()).count(b"\n") < at_least and time.monotonic() < deadline:
            time.sleep(0.05)
        os.truncate(path, 0)
        said, users = (pattern.findall(content.decode()) for pattern in (_auth, _verified_user))
        return Verdicts(Counter(said), Counter(users))

    return take


def count(port: int) -> Ledger:
    """Ask over HTTP how many were verified. It is complete: the count grows before the answer."""
    taken = 0

    def take(_: int) -> Verdicts:
        nonlocal taken
        _, body = get(port, "GET /verified")
        new, taken = int(body) - taken, int(body)
        return Verdicts(Counter(verified=new), None)

    return take


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
        ledger(0)
        status, _ = get(port, LOGOUT, load.KINDS[kind]()[number])
        said = ledger(1 if status == HTTPStatus.OK else 0).said
        if (said["verified"] == 1) is not good or (status != 200 if good else status not in {200, 401}):
            raise WrongError(f"{name}: a token that is {kind} got {status}, and the verdicts {dict(said)}")


def check_guard(name: str, port: int, line: str) -> None:
    for kind, make in load.KINDS.items():
        status, _ = get(port, line, make()[0])
        if status != (200 if kind == "verified" else 401):
            raise WrongError(f"{name}: a token that is {kind} got {status}")

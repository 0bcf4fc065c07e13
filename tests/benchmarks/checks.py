"""A contender that answers without verifying is worth nothing: each run is held to what it must have said."""

import http.client
from collections import Counter
from http import HTTPStatus

from tests.benchmarks import http_requests, tokens
from tests.benchmarks.drive import Answers
from tests.benchmarks.verdicts import Ledger, Verdicts


class WrongError(Exception):
    """A contender did not do what is measured; its figures would mean nothing."""


def check_run(name: str, expected: str, answers: Answers, verdicts: Verdicts, connections: int) -> None:
    """Hold a run to its verdicts: one for each response, and for no more than the requests cut off by wrk's end.

    Args:
        name: whose run, for the message.
        expected: the verdict on every request.
        answers: what wrk counted.
        verdicts: what was said.
        connections: how many requests can have been under way at the end.

    Raises:
        WrongError: it does not hold.
    """
    check_answers(name, answers)
    said = verdicts.said[expected]
    if others := verdicts.said.total() - said:
        raise WrongError(f"{name}: {others} verdicts were not {expected}: {dict(verdicts.said)}")
    if not answers.responses <= said <= answers.responses + connections:
        raise WrongError(f"{name}: {answers.responses} responses, but {said} verdicts {expected}")
    if expected == "verified" and verdicts.users is not None:
        _check_users(name, said, verdicts.users)


def check_suppressed(name: str, expected: str, answers: Answers, verdicts: Verdicts) -> None:
    """Hold a run to its verdicts where most get no line: the few lines say what is expected, and not all are written.

    Raises:
        WrongError: it does not hold.
    """
    check_answers(name, answers)
    said = verdicts.said[expected]
    if said != verdicts.said.total() or said >= answers.responses:
        raise WrongError(f"{name}: {answers.responses} responses were to be suppressed: {dict(verdicts.said)}")


def check_answers(name: str, answers: Answers) -> None:
    """Hold a run to its answers.

    Raises:
        WrongError: one had another status than 2xx, or none came.
    """
    if answers.not_ok or answers.unanswered:
        raise WrongError(f"{name}: {answers.not_ok} answers were not 200, {answers.unanswered} requests broke")
    if not answers.responses:
        raise WrongError(f"{name}: no answer at all")


def _check_users(name: str, said: int, users: Counter[str]) -> None:
    ours = {tokens.user_id(number) for number in range(tokens.USERS)}
    if strangers := set(users) - ours:
        raise WrongError(f"{name}: verified {len(strangers)} users who sent no token")
    if users.total() != said:
        raise WrongError(f"{name}: {said} verdicts verified, but {users.total()} name their user")
    if said >= 2 * len(ours) and (missing := ours - set(users)):
        raise WrongError(f"{name}: {len(missing)} of {len(ours)} users were never verified")


def check_refusals(name: str, port: int, ledger: Ledger, *, expiry: bool = True, number: int = 0) -> None:
    """See that a running contender tells a good token from a forged and from an expired one.

    Args:
        name: whose.
        port: where it listens.
        ledger: where it tells its verdicts.
        expiry: whether it looks at claims; one that verifies the signature only takes an expired token for good.
        number: which of the tokens of each kind to send; one that was never sent before is in nobody's memory.

    Raises:
        WrongError: it does not.
    """
    kinds = {"verified": True, "rejected": False} | ({"expired": False} if expiry else {})
    for kind, good in kinds.items():
        ledger.take()
        status = ask(port, tokens.KINDS[kind]()[number])
        said = ledger.take(1 if status == HTTPStatus.OK else 0).said
        if (said["verified"] == 1) is not good or (status != 200 if good else status not in {200, 401}):
            raise WrongError(f"{name}: a token that is {kind} got {status} and the verdicts {dict(said)}")


def ask(port: int, token: str, *, line: str = http_requests.LOGOUT) -> int:
    """Send one request; give the status of its answer."""
    method, path = line.split()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, headers={"Authorization": f"Bearer {token}"} if token else {})
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status

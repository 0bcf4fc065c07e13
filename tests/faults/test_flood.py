"""One address floods the service without proving anything: as fast as it goes, at the default limit."""

import asyncio
import http.client
import json
import re
import statistics
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.lines import EventFile
from tests.support.processes import TIMEOUT, Server, serve
from tests.support.signing import claims, token

FLOOD = 20_000
CONNECTIONS = 16
PER_SECOND = 50
"""The default of FLOOD_PER_SECOND; the other tests' services run without a limit."""
BURST = 10 * PER_SECOND
USERS_PER_SECOND = 100
FLOODER = "203.0.113.7"

pytestmark = pytest.mark.fault


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    event_id: str
    recorded: bool
    seconds: float


class Connection:
    """One connection that is kept, one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def logout(self, client: str, session_token: str | None = None) -> Answer:
        """Log out from an address, which the service believes us: we are its proxy."""
        authorization = f"Authorization: Bearer {session_token}\r\n" if session_token else ""
        started = time.perf_counter()
        self._writer.write(
            "DELETE /v1/auth/session HTTP/1.1\r\nHost: service\r\n"
            f"X-Forwarded-For: {client}\r\n{authorization}\r\n".encode()
        )
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: ([0-9]+)", head)
        assert length is not None
        body = json.loads(await self._reader.readexactly(int(length[1])))
        seconds = time.perf_counter() - started
        return Answer(int(head.split(maxsplit=2)[1]), body["event_id"], body["recorded"], seconds)

    async def close(self) -> None:
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()


async def connect(server: Server) -> Connection:
    return Connection(*await asyncio.open_connection(*server.address))


async def flood(server: Server, calls: int) -> list[Answer]:
    """Call without a token from one address, as fast as the connections are answered."""

    async def some() -> list[Answer]:
        connection = await connect(server)
        answers = [await connection.logout(FLOODER) for _ in range(calls // CONNECTIONS)]
        await connection.close()
        return answers

    return [answer for part in await asyncio.gather(*(some() for _ in range(CONNECTIONS))) for answer in part]


async def users(server: Server, tokens: Iterable[str], until: asyncio.Event) -> list[Answer]:
    """Log out one user after another from addresses of their own, 100 a second, until told to stop."""
    loop = asyncio.get_running_loop()
    started = loop.time()

    async def user(number: int, session_token: str) -> Answer:
        connection = await connect(server)
        answer = await connection.logout(f"198.51.100.{number % 250}", session_token)
        await connection.close()
        return answer

    calls = []
    for number, session_token in enumerate(tokens):
        if until.is_set():
            break
        calls.append(asyncio.create_task(user(number, session_token)))
        await asyncio.sleep(started + number / USERS_PER_SECOND - loop.time())
    return list(await asyncio.gather(*calls))


def once(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events as a consumer sees them: delivery is at least once, so that a repeated ``event_id`` is dropped."""
    return list({event["event_id"]: event for event in events}.values())


def lost(server: Server) -> int:
    """Events that neither the log nor the spool took in time, as on a machine that is overloaded."""
    connection = http.client.HTTPConnection(*server.address, timeout=TIMEOUT)
    connection.request("GET", "/metrics")
    found = re.search(rb"^clerk_logout_events_lost_total ([0-9]+)", connection.getresponse().read(), re.MULTILINE)
    connection.close()
    assert found is not None
    return int(found[1])


def check_flood(answers: list[Answer], events: list[dict[str, Any]], lost: int, seconds: float) -> str:
    """Hold what flood control promises; give the figures."""
    lines = {event["event_id"] for event in events if event["event"] == "user_logout" and event["auth"] == "absent"}
    counts = {event["event_id"]: event["count"] for event in events if event["event"] == "user_logout_suppressed"}
    told = Counter(answer.event_id for answer in answers)
    missing = told.keys() - lines - counts.keys()
    assert {answer.status for answer in answers} == {200}
    assert {answer.event_id for answer in answers if answer.recorded} <= lines
    assert counts == {event_id: told[event_id] for event_id in counts}, "each summary counts those who were told of it"
    assert len(missing) <= lost
    assert len(lines) + sum(counts.values()) + len(missing) == len(answers)
    assert BURST <= len(lines) + len(missing) <= BURST + PER_SECOND * seconds
    return (
        f"{len(answers)} anonymous calls in {seconds:.1f} s: {len(lines)} lines "
        f"(at most {BURST + PER_SECOND * seconds:.0f}), {sum(counts.values())} counted in {len(counts)} summaries, "
        f"{len(missing)} lost"
    )


def test_every_call_of_a_flood_has_a_line_or_is_counted(tmp_path: Path) -> None:
    event_log = EventFile(tmp_path / "events.jsonl")
    with serve(settings={"FLOOD_PER_SECOND": str(PER_SECOND), "EVENT_LOG": str(event_log.path)}) as server:
        started = time.monotonic()
        answers = asyncio.run(flood(server, FLOOD))
        seconds = time.monotonic() - started
        gone = lost(server)
        assert server.stop() == 0
    assert len(answers) == FLOOD
    print(f"\n{check_flood(answers, once(event_log.new()), gone, seconds)}")  # noqa: T201 - the figure


def test_a_flood_suppresses_no_user(tmp_path: Path) -> None:
    event_log = EventFile(tmp_path / "events.jsonl")
    # Made before, so that it costs nobody time.
    tokens = [token(claims(sid=f"sess_{number}", exp=int(time.time()) + 600)) for number in range(3000)]

    async def both(server: Server) -> tuple[list[Answer], list[Answer]]:
        over = asyncio.Event()
        of_users = asyncio.create_task(users(server, tokens, over))
        of_flood = await flood(server, FLOOD)
        over.set()
        return of_flood, await of_users

    with serve(settings={"FLOOD_PER_SECOND": str(PER_SECOND), "EVENT_LOG": str(event_log.path)}) as server:
        started = time.monotonic()
        of_flood, of_users = asyncio.run(both(server))
        seconds = time.monotonic() - started
        gone = lost(server)
        assert server.stop() == 0
    events = once(event_log.new())
    figures = check_flood(of_flood, events, gone, seconds)
    verified = {event["event_id"]: event["session_id"] for event in events if event["auth"] == "verified"}
    expected = {answer.event_id: f"sess_{number}" for number, answer in enumerate(of_users)}
    missing = expected.keys() - verified.keys()
    assert {answer.status for answer in of_users} == {200}
    assert verified.items() <= expected.items()
    assert not missing & {event["event_id"] for event in events}, "no user is counted in a summary"
    assert not missing & {answer.event_id for answer in of_users if answer.recorded}
    assert len(missing) <= gone
    p99 = statistics.quantiles([answer.seconds for answer in of_users], n=100)[98]
    print(  # noqa: T201 - the figure
        f"\n{figures}; beside them {len(of_users)} users, {len(of_users) / seconds:.0f} a second: "
        f"{len(verified)} verified and recorded, {len(missing)} lost, p99 {1000 * p99:.1f} ms"
    )

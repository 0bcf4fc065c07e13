"""The one place where event lines are read, and held against their schemas while they are."""

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs

from service.events.schemas import schemas
from tests.support.processes import wait_until

MAX_LINE = 4096


@cache
def _validator(event: str) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(schemas()[event], validate_formats=True)


def read_line(line: bytes) -> dict[str, Any]:
    """Parse one event line, which must be complete, bounded, of a known event, and true to its schema."""
    assert line.endswith(b"\n"), f"torn line: {line[-80:]!r}"
    assert len(line) <= MAX_LINE
    assert not any(byte < 0x20 for byte in line[:-1]), "a control character is not escaped"
    event: dict[str, Any] = json.loads(line.decode("utf-8"))
    schema = schemas()[event["event"]]
    _validator(event["event"]).validate(event)
    # The published schema lets later versions add keys; this version has added none that it does not describe.
    assert set(event) <= set(schema["properties"])
    return event


def read_lines(lines: Iterable[bytes]) -> list[dict[str, Any]]:
    return [read_line(line) for line in lines]


class EventFile:
    """An event log file as a consumer follows it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = 0
        self._known: set[str] = set()

    def new(self) -> list[dict[str, Any]]:
        """The events since the last call."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self._read)
            lines = file.readlines()
            self._read = file.tell()
        events = read_lines(lines)
        self._known.update(event["event_id"] for event in events)
        return events

    def one(self) -> dict[str, Any]:
        """The one event since the last call; a copy of it, which "at least once" allows, is none."""
        (event,) = {event["event_id"]: event for event in self.new()}.values()
        return event

    def awaited(self, count: int = 1) -> list[dict[str, Any]]:
        """The next so many events of a process that runs, and may be late with them; a copy, of any, is none."""
        known, found = {*self._known}, dict[str, dict[str, Any]]()

        def are_there() -> bool:
            found.update({event["event_id"]: event for event in self.new() if event["event_id"] not in known})
            return len(found) >= count

        wait_until(are_there, f"{count} events")
        return [*found.values()]

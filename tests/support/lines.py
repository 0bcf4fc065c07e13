"""The one place where event lines are read, and held against their schemas while they are."""

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs

from service.events.schemas import schemas

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

    def new(self) -> list[dict[str, Any]]:
        """The events since the last call."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self._read)
            lines = file.readlines()
            self._read = file.tell()
        return read_lines(lines)

    def one(self) -> dict[str, Any]:
        """The one event since the last call; a copy of it, which "at least once" allows, is none."""
        (event,) = {event["event_id"]: event for event in self.new()}.values()
        return event

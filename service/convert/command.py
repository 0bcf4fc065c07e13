"""``clerk-logout convert``: lines in, lines of another standard out."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any

import orjson

from service.convert.standards import Event, ecs, ocsf, otel
from service.events.schemas import EVENTS

STANDARDS: dict[str, Callable[[Event], dict[str, Any] | None]] = {"ocsf": ocsf, "ecs": ecs, "otel": otel}

_has_our_form = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z").fullmatch


def convert(lines: Iterable[bytes], to: str, counts: Counter[str]) -> Iterator[bytes]:
    """Give a line for each event that the standard can tell of.

    Args:
        lines: of the event log.
        to: one of ``STANDARDS``.
        counts: is told of each line: ``converted``, the name of the event that was skipped, or ``no event``.
    """
    for line in filter(bytes.strip, lines):
        event = read_event(line)
        name = event.get("event") if event else None
        if not isinstance(name, str):
            name = "no event"
        converted = STANDARDS[to](event) if event and name in EVENTS else None
        counts["converted" if converted else name] += 1
        if converted:
            yield orjson.dumps(converted, option=orjson.OPT_APPEND_NEWLINE)


def read_event(line: bytes) -> Event | None:
    """Parse a line, without an ``ended_at`` that is no time; None without an ``event_id`` or our ``timestamp``."""
    try:
        event: Event = orjson.loads(line)
        if event["event_id"] in (None, "") or not _is_time(event["timestamp"]):
            return None
    except (ValueError, TypeError, LookupError):
        return None
    if not _is_time(event.get("ended_at")):
        event.pop("ended_at", None)
    return event


def _is_time(value: Any) -> bool:  # noqa: ANN401 - JSON
    try:
        return bool(_has_our_form(value) and datetime.fromisoformat(value))
    except (TypeError, ValueError):
        return False

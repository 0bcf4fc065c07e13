"""``clerk-logout convert``: lines in, lines of another standard out."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import orjson

from service.convert.ecs import ecs
from service.convert.event import Event, read_event
from service.convert.ocsf import ocsf
from service.convert.otel import otel
from service.events.schemas import EVENTS

STANDARDS: dict[str, Callable[[Event], dict[str, Any] | None]] = {"ocsf": ocsf, "ecs": ecs, "otel": otel}


def convert(lines: Iterable[bytes], to: str, counts: Counter[str]) -> Iterator[bytes]:
    """Give a line for each event that the standard can tell of.

    Args:
        lines: of the event log.
        to: one of ``STANDARDS``.
        counts: is told of each line: ``converted``, the name of the event that was skipped, or ``no event``.
    """
    for line in lines:
        if not line.strip():
            continue
        event = read_event(line)
        converted = STANDARDS[to](event) if event and event["event"] in EVENTS else None
        if converted:
            counts["converted"] += 1
            yield orjson.dumps(converted, option=orjson.OPT_APPEND_NEWLINE)
        else:
            counts[event["event"] if event else "no event"] += 1

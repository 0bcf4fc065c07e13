"""The JSON Schemas of the events: draft 2020-12, only keywords that draft-07 knows too."""

from functools import cache
from importlib.resources import files
from typing import Any

import orjson


@cache
def schemas() -> dict[str, dict[str, Any]]:
    """Give every schema by the name of its event."""
    found = (entry for entry in files(__name__).iterdir() if entry.name.endswith(".json"))
    return {entry.name.removesuffix(".json"): orjson.loads(entry.read_bytes()) for entry in sorted(found, key=str)}

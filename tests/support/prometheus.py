"""What the service shows Prometheus, and Prometheus's own programs."""

import subprocess
from pathlib import Path

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from service.telemetry.metrics import Metrics
from tests.support.debian import need
from tests.support.processes import TIMEOUT

_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}


def exposed() -> set[str]:
    """The names of all numbers that the service can show."""
    metrics = Metrics()
    assert metrics.keys_fetched_at  # made on demand
    families = text_string_to_metric_families(generate_latest(metrics.registry).decode())
    return {family.name + suffix for family in families for suffix in _SUFFIXES[family.type]}


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [need("promtool", "prometheus"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=10 * TIMEOUT, check=False)

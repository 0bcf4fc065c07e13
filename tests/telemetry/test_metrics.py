"""The instruments of one process, and the text that shows them."""

import os
import subprocess
import sys
from pathlib import Path

APPLICATION = """
import prometheus_client, service.guard
from prometheus_client import multiprocess
from service.telemetry.metrics import Metrics

prometheus_client.Counter("orders", "What the application counts.").inc()
print(prometheus_client.generate_latest().decode())
"""
TOGETHER = """
Metrics().session_checks.labels("admitted").inc()
registry = prometheus_client.CollectorRegistry()
multiprocess.MultiProcessCollector(registry)
print(prometheus_client.generate_latest(registry).decode())
"""


def test_a_guard_in_workers_counts_as_its_application_does(tmp_path: Path) -> None:
    """And importing it changes no counter of the application."""
    shown = [
        subprocess.run(
            [sys.executable, "-c", program], env=os.environ | variables, capture_output=True, text=True, check=True
        ).stdout
        for program, variables in (
            (APPLICATION, {}),
            (APPLICATION + TOGETHER, {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}),
        )
    ]
    assert "orders_created" in shown[0]
    assert "orders_total 1.0" in shown[1]
    assert 'clerk_logout_session_checks_total{result="admitted"} 1.0' in shown[1]

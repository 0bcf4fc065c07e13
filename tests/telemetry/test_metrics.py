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

    def shown(program: str, **variables: str) -> str:
        command = [sys.executable, "-c", program]
        return subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=True).stdout

    assert "orders_created" in shown(APPLICATION)
    together = shown(APPLICATION + TOGETHER, PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
    assert "orders_total 1.0" in together
    assert 'clerk_logout_session_checks_total{result="admitted"} 1.0' in together

"""The instruments of one process; those of several workers are in test_worker_metrics.py."""

import os
import subprocess
import sys
from pathlib import Path

from prometheus_client import generate_latest

from service.telemetry.metrics import Children, Metrics


def test_two_sets_of_metrics_in_one_process_do_not_count_together() -> None:
    one, other = Metrics(), Metrics()
    one.lost.inc()
    assert b"events_lost_total 1.0" in generate_latest(one.exposed)
    assert b"events_lost_total 0.0" in generate_latest(other.exposed)


def test_a_child_is_the_one_that_the_library_gives() -> None:
    metrics = Metrics()
    children = Children(metrics.key_fetches)
    children["ok",].inc()
    assert children["ok",] is children["ok",] is metrics.key_fetches.labels("ok")


def test_the_time_of_the_last_fetch_is_there_once_it_was_asked_for() -> None:
    metrics = Metrics()
    assert b"keys_fetched" not in generate_latest(metrics.registry)
    metrics.keys_fetched_at.set(5)
    assert b"clerk_logout_keys_fetched_timestamp_seconds 5.0" in generate_latest(metrics.registry)


APPLICATION = """
import prometheus_client, service.guard
from prometheus_client import multiprocess
from service.telemetry.metrics import Metrics

prometheus_client.Counter("orders", "What the application counts.").inc()
registry = prometheus_client.REGISTRY
"""
TOGETHER = """
Metrics().session_checks.labels("admitted").inc()
registry = prometheus_client.CollectorRegistry()
multiprocess.MultiProcessCollector(registry)
"""
SHOW = "print(prometheus_client.generate_latest(registry).decode())"


def shown_by(program: str, **environment: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", program], env=os.environ | environment, capture_output=True, text=True, check=True
    ).stdout


def test_an_application_that_imports_the_guard_counts_as_it_did_before() -> None:
    assert "orders_created" in shown_by(APPLICATION + SHOW)


def test_in_workers_of_an_application_the_guard_counts_as_the_application_does(tmp_path: Path) -> None:
    shown = shown_by(APPLICATION + TOGETHER + SHOW, PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
    assert "orders_total 1.0" in shown
    assert 'clerk_logout_session_checks_total{result="admitted"} 1.0' in shown

"""``deploy/grafana/dashboard.json``: true to Grafana's types, and about numbers that the service shows."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.support.debian import need
from tests.support.processes import Server, free_port, running, serve, wait_until
from tests.support.prometheus import exposed, promtool
from tests.support.signing import token

DASHBOARD: dict[str, Any] = json.loads(Path("deploy/grafana/dashboard.json").read_text("utf-8"))
LABELS = {"job", "instance", "event", "auth", "reason", "result", "call", "path", "method", "status", "le"}
QUERIES = {
    f"{panel['title']} {target['refId']}": target["expr"]
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
}
COVERAGE = "Coverage: the frontend's calls against Clerk's webhooks"
EMPTY_WITHOUT_CLERK = {"Age of the keys A", "Clerk A", "Clerk B", f"{COVERAGE} B", f"{COVERAGE} C"}
"""What there are no numbers for with a PEM, without webhooks, and where nobody signs out everywhere."""


def filled_in(query: str) -> str:
    return query.replace("$__rate_interval", "1m").replace("$job", "clerk-logout").replace("$instance", ".*")


def holds(whole: Any, part: Any) -> bool:
    """Tell whether all of one JSON value is in another, which may have more members in its objects."""
    if isinstance(part, dict):
        return all(key in whole and holds(whole[key], value) for key, value in part.items())
    if isinstance(part, list):
        return len(whole) == len(part) and all(map(holds, whole, part))
    return bool(whole == part)


def test_grafanas_types_take_the_whole_dashboard() -> None:
    """What they do not know, they leave out."""
    register_default_plugins()
    assert holds(json.loads(JSONEncoder().encode(Dashboard.from_json(DASHBOARD))), DASHBOARD)


def test_prometheus_accepts_every_query(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{number}", "expr": filled_in(query)} for number, query in enumerate(QUERIES.values())]
    (tmp_path / "rules.json").write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}), "utf-8")
    done = promtool("check", "rules", tmp_path / "rules.json")
    assert f"SUCCESS: {len(rules)} rules found" in done.stdout, done.stderr


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_a_query_names_only_numbers_and_labels_that_there_are(query: str) -> None:
    assert set(re.findall(r"\bclerk_logout_\w+", query)) <= exposed()
    assert set(re.findall(r"(\w+)(?:=|!=|=~)\"", query)) <= LABELS | {"alertname", "alertstate"}
    assert set(re.findall(r"by \(([\w, ]+)\)", query.replace(", ", ") by ("))) <= LABELS


def test_every_panel_says_what_it_shows() -> None:
    assert all(panel["description"] for panel in DASHBOARD["panels"])


@contextmanager
def prometheus(directory: Path, *replicas: Server) -> Iterator[str]:
    """A Prometheus that scrapes the replicas each second, and its address."""
    scrape = {
        "job_name": "clerk-logout",
        "scrape_interval": "1s",
        "static_configs": [{"targets": ["{}:{}".format(*replica.address) for replica in replicas]}],
    }
    (directory / "prometheus.json").write_text(json.dumps({"scrape_configs": [scrape]}), "utf-8")
    port = free_port()
    command = [
        need("prometheus", "prometheus"),
        f"--config.file={directory / 'prometheus.json'}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    ]
    with running(command, port):
        yield f"http://127.0.0.1:{port}"


@pytest.mark.slow
def test_every_query_finds_its_numbers_in_a_real_prometheus(tmp_path: Path) -> None:
    with serve() as one, serve() as two, prometheus(tmp_path, one, two) as url, httpx.Client() as client:

        def missing() -> set[str]:
            for server in (one, two):
                client.delete(f"{server.url}/v1/auth/session", headers={"Authorization": f"Bearer {token()}"})
                client.delete(f"{server.url}/v1/auth/session")
                client.get(f"{server.url}/v1/auth/session")
            answers = {
                name: client.get(f"{url}/api/v1/query", params={"query": filled_in(query)}).json()
                for name, query in QUERIES.items()
            }
            assert all(answer["status"] == "success" for answer in answers.values()), answers
            return {name for name, answer in answers.items() if not answer["data"]["result"]}

        wait_until(lambda: missing() == EMPTY_WITHOUT_CLERK, "every query finds something")

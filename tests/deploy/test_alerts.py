"""``deploy/alerts.yml``: rules that Prometheus accepts, about numbers that the service shows, with something to do."""

import re
from pathlib import Path

import pytest

from tests.support.prometheus import exposed, promtool

RULES = Path("deploy/alerts.yml")
UNIT_TESTS = Path("tests/deploy/alerts_test.yml")
ALERTS = dict(re.findall(r"^      - alert: (\w+)\n((?:        .*\n)+)", RULES.read_text("utf-8"), re.MULTILINE))


def test_prometheus_accepts_the_rules() -> None:
    done = promtool("check", "rules", RULES)
    assert done.returncode == 0, done.stderr
    assert f"SUCCESS: {len(ALERTS)} rules found" in done.stdout


def test_each_alert_fires_and_stays_silent_when_it_should() -> None:
    done = promtool("test", "rules", UNIT_TESTS)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_is_seen_to_fire(alert: str) -> None:
    unit_tests = UNIT_TESTS.read_text("utf-8")
    assert f'alertname="{alert}",alertstate="firing"' in unit_tests or f"alertname: {alert}\n" in unit_tests


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_is_about_what_the_service_shows_and_helps(alert: str) -> None:
    body = ALERTS[alert]
    named = set(re.findall(r"\bclerk_logout_\w+", re.split("        (?:for|labels):", body)[0]))
    assert named <= exposed()
    assert named or 'up{job="clerk-logout"}' in body  # Prometheus's own
    assert re.search(r"^          severity: (critical|warning)$", body, re.MULTILINE)
    for annotation in ("summary", "action"):
        assert re.search(rf'^          {annotation}: ".{{20,130}}\."$', body, re.MULTILINE)


def test_the_runbook_has_a_section_for_each_alert_and_no_other() -> None:
    runbook = Path("docs/runbook.md").read_text("utf-8")
    assert set(re.findall(r"^### (ClerkLogout\w+)$", runbook, re.MULTILINE)) == set(ALERTS)


def test_the_settings_that_actions_name_exist() -> None:
    example = Path(".env.example").read_text("utf-8")
    named = set(re.findall(r"\b[A-Z]+_[A-Z_]+\b", RULES.read_text("utf-8")))
    assert named
    assert all(f"{name}=" in example for name in named)

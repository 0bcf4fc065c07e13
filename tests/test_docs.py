"""What README.md and .env.example say is what the code does."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from service.clerk.verdict import Auth, Reason
from service.events.schemas import schemas
from service.telemetry.metrics import Metrics
from service.settings import Settings
from tests.guard.test_example import EXAMPLES as EXAMPLES_OF_THE_GUARD
from tests.support.lines import read_line
from tests.support.processes import TIMEOUT
from tests.support.sandbox import Sandbox, start_sandbox

README = Path("README.md").read_text("utf-8")
EXAMPLES = re.findall(r"^```console\n\$ (curl .*)\n((?:.|\n)*?)^```$", README, re.MULTILINE)

_CHANGING = {
    "<uuid>": r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}",
    "date: <date>": r"date: \w{3}, .* GMT",
    "<port>": r"(?<=127\.0\.0\.1:)\d+",
}


def steady(text: str) -> str:
    """A text without what differs from call to call."""
    for name, pattern in _CHANGING.items():
        text = re.sub(pattern, name, text)
    return text.strip()


def table(heading: str, after: str = "") -> list[list[str]]:
    """The rows of the first table below a heading (and below some text)."""
    section = (
        README.split(f"\n{heading}\n", 1)[1].partition(after)[2] if after else README.split(f"\n{heading}\n", 1)[1]
    )
    lines = section[section.index("|") :].splitlines()
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line[1:-1].split("|")])
    return rows[2:]


def as_written(default: Any) -> str:
    """A setting's default as it stands in a document."""
    if default is None:
        return ""
    if isinstance(default, SecretStr):
        return default.get_secret_value()
    return json.dumps(",".join(default) if isinstance(default, tuple) else default).strip('"')


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with start_sandbox() as sandbox:
        yield sandbox


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 5


@pytest.mark.parametrize(("command", "answer"), EXAMPLES, ids=[command[:90] for command, _ in EXAMPLES])
def test_each_curl_gets_the_answer_that_readme_shows(sandbox: Sandbox, command: str, answer: str) -> None:
    here = command.replace("http://127.0.0.1:8000", sandbox.service_url).replace(
        "http://127.0.0.1:8001", sandbox.clerk_url
    )
    done = subprocess.run(here, shell=True, capture_output=True, timeout=TIMEOUT, check=True)  # noqa: S602 - README's words
    assert steady(done.stdout.decode().replace("\r\n", "\n")) == steady(answer)


def test_the_applications_that_readme_guards_are_those_that_are_tried() -> None:
    assert re.findall(r"^```python\n((?:.|\n)*?)^```$", README, re.MULTILINE) == list(EXAMPLES_OF_THE_GUARD.values())


def test_the_shown_event_holds_to_the_schema() -> None:
    (line,) = re.findall(r'^{"event":.*}$', README, re.MULTILINE)
    assert read_line(f"{line}\n".encode())["auth"] == "verified"


def test_the_banner_is_what_the_sandbox_prints(sandbox: Sandbox) -> None:
    shown = re.search(r"<!-- make run -->\n```\n((?:.|\n)*?)```", README)
    assert shown is not None
    assert steady(sandbox.banner) in steady(shown[1])


def test_readme_shows_what_make_test_prints() -> None:
    shown = re.search(r"<!-- make test -->\n```\n((?:.|\n)*?)```", README)
    assert shown is not None
    assert re.search(r"^=+ [0-9]{4,} passed, [0-9]+ deselected in .*\n(.*\n)*TOTAL .* 100%$", shown[1], re.MULTILINE)


def test_the_event_table_lists_the_keys_in_their_order() -> None:
    keys = [row[0].strip("`") for row in table("## The event")]
    assert keys == list(schemas()["user_logout"]["properties"])


def test_the_verdict_table_lists_every_verdict() -> None:
    assert {row[0].strip("`") for row in table("## The verdict")} == set(Auth)


def test_the_table_of_checks_names_every_reason() -> None:
    named = re.findall(r"`((?:token|jwk|session)-[a-z-]+)`", str(table("## The verdict", "gives the `reason`:")))
    assert set(named) == set(Reason)


def test_the_configuration_table_lists_every_setting_with_its_default() -> None:
    shown = {row[0].strip("`"): row[1].strip("`") for row in table("## Configuration")}
    assert list(shown) == [name.upper() for name in Settings.model_fields]
    for name, field in Settings.model_fields.items():
        assert shown[name.upper()] == as_written(field.default)


def test_the_env_example_shows_the_real_defaults() -> None:
    shown = dict(re.findall(r"^# ([A-Z_]+)=(.*)$", Path(".env.example").read_text("utf-8"), re.MULTILINE))
    for name, text in shown.items():
        assert text == as_written(Settings.model_fields[name.lower()].default)


def test_the_table_of_metrics_lists_every_metric() -> None:
    metrics = Metrics()
    assert metrics.keys_fetched_at  # made on demand
    shown = {row[0].strip("`"): row[1] for row in table("## Monitoring")}
    assert shown == {
        family.name + ("_total" if family.type == "counter" else ""): family.type
        for family in metrics.registry.collect()
    }


def test_the_table_of_alerts_lists_every_alert_with_its_severity() -> None:
    rules = Path("deploy/alerts.yml").read_text("utf-8")
    alerts = re.findall(r"- alert: (\w+)\n(?:.*\n)+?          severity: (\w+)", rules)
    assert [(row[0].strip("`"), row[1]) for row in table("## Monitoring", "stay silent.")] == alerts


def test_each_promise_names_a_test_that_exists() -> None:
    rows = table("### Seen to hold")
    tests = "".join(path.read_text("utf-8") for path in Path("tests/faults").glob("test_*.py"))
    assert len(rows) >= 11
    for row in rows:
        assert f"def {row[1].strip('`')}(" in tests


def test_the_costs_that_readme_tells_are_those_that_were_measured() -> None:
    shown = re.search(r"<!-- from (\S+) -->\nMeasured on (\S+),((?:.|\n)*?)<!-- end -->", README)
    assert shown is not None
    path, date, text = shown.groups()
    measured = Path(path).read_text("utf-8")
    assert f"Measured on {date} " in measured
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) > 10
    assert [row for row in rows if row not in measured.splitlines()] == []


def test_every_make_command_that_readme_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", Path("Makefile").read_text("utf-8"), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)\b(?= |`|$)", README, re.MULTILINE)) - {"shows"} <= targets


def test_the_dockerfile_copies_what_is_there() -> None:
    for source in re.findall(r"^COPY (?!--from)(\S+) ", Path("deploy/Dockerfile").read_text("utf-8"), re.MULTILINE):
        assert Path(source).exists()
        assert f"!{source}" in Path(".dockerignore").read_text("utf-8")

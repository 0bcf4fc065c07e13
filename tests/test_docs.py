"""What README.md, docs/ and .env.example say is what the code does."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from service.clerk.verdict import Auth, Reason
from service.cli import main
from service.endpoints import protocol
from service.endpoints.documents import document
from service.events.schemas import schemas
from service.settings import Settings
from service.telemetry.metrics import Metrics
from tests.support.api_document import operations
from tests.support.lines import read_line
from tests.support.sandbox import Sandbox, run, start_sandbox

PAGES = {
    str(path): path.read_text("utf-8")
    for path in [
        *sorted(Path().glob("*.md")),
        Path("service/README.md"),
        *sorted(Path("docs").glob("*.md")),
        *sorted(Path("deploy").rglob("README.md")),
    ]
}
README = PAGES["README.md"]
EVERYTHING = "\n".join(text for path, text in PAGES.items() if path != "CHANGELOG.md")
ENV_EXAMPLE = Path(".env.example").read_text("utf-8")
EXAMPLES = [
    pytest.param(command, answer, id=f"{path}: {command[:70]}")
    for path, text in PAGES.items()
    for command, answer in re.findall(r"^```console\n\$ (curl .*)\n((?:.|\n)*?)^```$", text, re.MULTILINE)
]
OTHER_VARIABLES = {"HTTPS_PROXY", "NEXT_PUBLIC_CLERK_LOGOUT_URL", "PROMETHEUS_MULTIPROC_DIR", "WORKERS"}
"""Named in the docs, and no settings."""

_CHANGING = {
    "<uuid>": r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}",
    "date: <date>": r"date: \w{3}, .* GMT",
}


def steady(text: str) -> str:
    """A text without what differs from call to call."""
    for name, pattern in _CHANGING.items():
        text = re.sub(pattern, name, text)
    return text.strip()


def section(page: str, heading: str) -> str:
    """What stands below a heading, down to the next one."""
    return re.split(r"^#", PAGES[page].split(f"{heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def table(page: str, heading: str) -> list[list[str]]:
    """The rows of the first table below a heading, without the marks around code."""
    lines = [line for line in section(page, heading).splitlines() if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in line[1:-1].split("|")] for line in lines[2:]]


def column(page: str, heading: str) -> list[str]:
    return [row[0] for row in table(page, heading)]


def blocks(page: str, language: str = "") -> list[str]:
    """The code blocks of a page in one language."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PAGES[page], re.MULTILINE | re.DOTALL)
    return [text for name, text in found if name == language]


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.*)$", without_code(page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def as_written(default: Any) -> str:
    """A setting's default as it stands in a document."""
    if default is None:
        return ""
    if isinstance(default, SecretStr):
        return default.get_secret_value()
    return json.dumps(",".join(default) if isinstance(default, tuple) else default).strip('"')


def metric_names() -> dict[str, str]:
    metrics = Metrics()
    assert metrics.keys_fetched_at  # made on demand
    return {
        family.name + ("_total" if family.type == "counter" else ""): family.type
        for family in metrics.registry.collect()
    }


def alerts() -> list[tuple[str, str]]:
    rules = Path("deploy/alerts.yml").read_text("utf-8")
    return re.findall(r"- alert: (\w+)\n(?:.*\n)+?          severity: (\w+)", rules)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with start_sandbox() as sandbox:
        # The keys are fetched in the background, and the docs show what a service answers that has them.
        run(f"curl -s --retry 50 --retry-delay 1 --retry-all-errors --fail {sandbox.service_url}/readyz")
        yield sandbox


def local(sandbox: Sandbox, text: str) -> str:
    """A text with the addresses of this sandbox in place of the usual ones."""
    return text.replace("http://127.0.0.1:8000", sandbox.service_url).replace(
        "http://127.0.0.1:8001", sandbox.clerk_url
    )


# --- All pages --------------------------------------------------------------------------------------------------------


def test_readme_is_short_and_leads_to_every_page() -> None:
    assert len(README.splitlines()) <= 200
    assert [path for path in PAGES if path.startswith("docs/") and f"({path}" not in README] == []


@pytest.mark.parametrize("path", PAGES)
def test_every_link_leads_somewhere(path: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(PAGES[path])):
        if not link.startswith(("http://", "https://")):
            file, _, anchor = link.partition("#")
            target = Path(path).parent / file if file else Path(path)
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


def test_every_path_and_command_that_is_named_exists() -> None:
    named = re.findall(r"`((?:service|tests|deploy|docs|\.ci)/[\w./-]*)`", EVERYTHING)
    assert [path for path in named if not Path(path).exists()] == []
    targets = set(re.findall(r"^([a-z-]+):", Path("Makefile").read_text("utf-8"), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", EVERYTHING, re.MULTILINE)) <= targets
    commands = re.findall(r"(?:-m service|`clerk-logout|bin/clerk-logout) ([a-z]+)", EVERYTHING)
    assert set(commands) <= set(main.commands)
    assert set(column("docs/configuration.md", "## The command")) == set(main.commands)


def test_every_variable_metric_and_alert_that_is_named_exists() -> None:
    known = {name.upper() for name in Settings.model_fields} | OTHER_VARIABLES
    named = re.findall(r"`([A-Z]+(?:_[A-Z]+)+)(?:=[^`]*)?`", EVERYTHING)
    named += re.findall(r"\b(?:CLERK|EVENT|FLOOD|REVOCATIONS|REVERIFICATION|FORWARDED)_[A-Z_]+\b", EVERYTHING)
    assert set(named) - known == set()
    assert set(re.findall(r"\bclerk_logout_\w+", EVERYTHING)) <= set(metric_names())
    assert set(re.findall(r"\bClerkLogout\w+", EVERYTHING)) <= {name for name, _ in alerts()}


# --- What is shown is what happens ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("command", "answer"), EXAMPLES)
def test_each_curl_gets_the_answer_that_is_shown(sandbox: Sandbox, command: str, answer: str) -> None:
    assert len(EXAMPLES) >= 8
    assert steady(run(local(sandbox, command))) == steady(answer)


def test_readme_shows_what_the_sandbox_prints(sandbox: Sandbox) -> None:
    (command,) = re.findall(r"^\$ (curl .*)$", README, re.MULTILINE)
    assert local(sandbox, command) in sandbox.banner
    assert "<http://127.0.0.1:8001/>" in README
    assert f"{sandbox.clerk_url}/" in sandbox.banner


def test_what_readme_repeats_is_as_elsewhere() -> None:
    (event,) = blocks("README.md", "json")
    assert read_line(json.dumps(json.loads(event)).encode() + b"\n")["auth"] == "verified"
    assert blocks("README.md", "tsx") == blocks("deploy/nextjs/README.md", "tsx")
    assert blocks("deploy/README.md")[1].startswith(blocks("README.md")[-1])


@pytest.mark.skipif(shutil.which("jq") is None, reason="needs Debian's jq")
def test_the_jq_example_counts_each_event_once(tmp_path: Path) -> None:
    line = json.dumps(json.loads(blocks("README.md", "json")[0]))
    (tmp_path / "torn").write_text(f"{line}\n{line[:40]}\n{line}\n", encoding="utf-8")
    assert run(blocks("docs/events.md")[0].replace("events.jsonl", "torn"), tmp_path).split() == ["1", "2026-11-21"]


# --- The pages of reference -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), operations())
def test_the_http_reference_lists_every_status(method: str, path: str) -> None:
    if f"\n## `{method} {path}`\n" in PAGES["docs/http.md"]:
        statuses = column("docs/http.md", f"## `{method} {path}`") or ["200"]
    else:
        (answers,) = [row[1] for row in table("docs/http.md", "## Everything else") if row[0] == f"{method} {path}"]
        statuses = re.findall(r"\b[2345]\d\d\b", answers)
    assert set(statuses) == set(operations()[method, path]["responses"])


def test_the_http_reference_or_the_checks_name_every_reason() -> None:
    members = re.findall(r'"reason": \{[^}]*\}', json.dumps(document()["components"]["schemas"]))
    reasons = set(re.findall(r'"([a-z]+(?:-[a-z]+)+)"', str(members))) - {"reverification-error"}  # Clerk's own
    assert len(reasons) > len(Reason)
    checks = str([row[1] for row in table("docs/security.md", "## The checks")])
    assert set(re.findall(r"\b(?:token|jwk|session)-[a-z-]+", checks)) == set(Reason)
    assert [reason for reason in sorted(reasons - set(Reason)) if f"`{reason}`" not in PAGES["docs/http.md"]] == []


def test_the_event_page_lists_every_event_and_verdict() -> None:
    listed = re.findall(r"\(#(\w+)\)", str(column("docs/events.md", "# Events")))
    assert sorted(listed) == sorted(schemas())
    assert set(column("docs/events.md", "## The verdict")) == set(Auth)


@pytest.mark.parametrize("event", schemas())
def test_the_event_page_lists_every_key_in_its_order(event: str) -> None:
    common = schemas()["user_logout"]["properties"]
    keys = [key for key in schemas()[event]["properties"] if event == "user_logout" or key not in common]
    assert column("docs/events.md", f"## `{event}`") == keys


def test_every_setting_is_listed_with_its_default() -> None:
    settings = [(name.upper(), as_written(field.default)) for name, field in Settings.model_fields.items()]
    assert [(row[0], row[1]) for row in table("docs/configuration.md", "# Configuration")] == settings
    assert re.findall(r"^# .+\n(?:# )?([A-Z_]+)=(.*)$", ENV_EXAMPLE, re.MULTILINE) == settings


def test_the_operations_page_lists_every_metric_and_alert() -> None:
    assert {row[0]: row[1] for row in table("docs/operations.md", "## Metrics")} == metric_names()
    assert [(row[0], row[1]) for row in table("docs/operations.md", "## Alerts")] == alerts()


def test_each_promise_names_a_test_that_exists() -> None:
    tests = "".join(path.read_text("utf-8") for path in Path("tests/faults").glob("test_*.py"))
    rows = table("docs/operations.md", "## Seen to hold")
    assert len(rows) >= 11
    assert [row[1] for row in rows if f"def {row[1]}(" not in tests] == []


def test_the_bounds_are_those_of_the_server_and_of_nginx() -> None:
    rows = {row[0]: row for row in table("docs/operations.md", "### Who bounds what")}
    assert rows["request line and headers"][1].startswith(f"{protocol.MAX_HEAD >> 10} KiB")
    assert rows["header fields"][1].startswith(f"{protocol.MAX_FIELDS}:")
    assert rows["silence within a body"][1].startswith(f"{protocol.CLIENT_TIMEOUT:.0f} s,")
    assert rows["an idle connection, after an answer"][1].startswith("KEEP_ALIVE_SECONDS` (75);")
    configured = "".join(path.read_text("utf-8") for path in Path("deploy/nginx").rglob("*") if path.is_file())
    directives = re.findall(r"`([a-z]+_[a-z_]+ [^`]+)`", section("docs/operations.md", "### Who bounds what"))
    assert len(directives) > 5
    assert [directive for directive in directives if f" {directive};" not in configured] == []


def test_the_shown_figures_are_those_that_were_measured() -> None:
    shown = re.search(r"<!-- from (\S+) -->\nMeasured on (\S+),((?:.|\n)*?)<!-- end -->", PAGES["docs/performance.md"])
    assert shown is not None
    path, date, text = shown.groups()
    measured = Path(path).read_text("utf-8")
    assert f"Measured on {date} " in measured
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) > 10
    assert [row for row in rows if row not in measured.splitlines()] == []


def test_the_development_page_lists_every_make_target() -> None:
    targets = re.findall(r"^([a-z-]+):.*## ", Path("Makefile").read_text("utf-8"), re.MULTILINE)
    assert [f"make {target}" for target in targets if target != "help"] == column("docs/development.md", "## Commands")


def test_the_maps_show_every_package() -> None:
    packages = {f"{path.parent.name}/" for path in Path("service").glob("*/__init__.py")}
    assert packages <= set(column("service/README.md", "# How the code is laid out"))
    assert {f"service/{package}" for package in packages} <= set(column("docs/development.md", "## Layout"))

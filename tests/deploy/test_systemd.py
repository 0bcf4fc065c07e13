"""``deploy/systemd``: the unit is confined, and its command line works with what the unit sets."""

import os
import pwd
import re
import shlex
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.support.debian import need
from tests.support.lines import EventFile
from tests.support.processes import ROOT, TIMEOUT, Server
from tests.support.signing import pem

UNIT = ROOT / "deploy" / "systemd" / "clerk-logout@.service"
LOGROTATE = ROOT / "deploy" / "systemd" / "logrotate"
SETTINGS: list[tuple[str, str]] = re.findall(r"^(\w+)=(.*)$", UNIT.read_text("utf-8"), re.MULTILINE)
MOST_EXPOSED = 2.0


def setting(name: str) -> str:
    (value,) = [value for found, value in SETTINGS if found == name]
    return value


def test_the_unit_is_confined() -> None:
    command: list[str | Path] = [need("systemd-analyze", "systemd"), "security", "--offline=true", "--no-pager", UNIT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=True)
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert exposure is not None
    assert float(exposure[1]) <= MOST_EXPOSED


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text("utf-8").replace("/opt/clerk-logout/bin/clerk-logout", sys.executable), "utf-8")
    command: list[str | Path] = [need("systemd-analyze", "systemd"), "verify", unit]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_its_command_line_serves_with_what_the_unit_sets(tmp_path: Path) -> None:
    """Only the program's path and the directories are others; port 0 is any free one."""
    specifiers = {"%i": "0", "%S": f"{tmp_path}/lib", "%L": f"{tmp_path}/log", "%d": f"{tmp_path}/credentials"}
    for directory in ("lib/clerk-logout/0", "log/clerk-logout", "credentials"):
        (tmp_path / directory).mkdir(mode=0o700, parents=True)
    (tmp_path / "credentials" / "clerk_jwt_key").write_text(pem(), "utf-8")
    set_by_unit = setting("Environment")
    for specifier, value in specifiers.items():
        set_by_unit = set_by_unit.replace(specifier, value)
    environment = dict(entry.split("=", 1) for entry in shlex.split(set_by_unit))
    written = (UNIT.parent / "environment").read_text("utf-8")
    environment |= dict(re.findall(r"^(\w+)=(.*)$", written, re.MULTILINE))
    program, *arguments = shlex.split(setting("ExecStart"))
    assert Path(program).name == "clerk-logout"
    command = [sys.executable, "-c", "from service.cli import main; main()", *arguments]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment | {"PATH": os.environ["PATH"]}, stderr=subprocess.PIPE
    )
    try:
        server = Server(process)
        answer = httpx.delete(f"{server.url}/v1/auth/session", timeout=TIMEOUT).json()
        assert httpx.get(f"{server.url}/readyz", timeout=TIMEOUT).json()["spool"] == "ok"
    finally:
        process.terminate()
        process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0
    event = EventFile(tmp_path / "log" / "clerk-logout" / "events-0.jsonl").one()
    assert event["event_id"] == answer["event_id"]


@pytest.mark.parametrize("has_events", [True, False])
def test_rotation_renames_and_may_find_nothing(tmp_path: Path, *, has_events: bool) -> None:
    user = pwd.getpwuid(os.getuid()).pw_name
    stanza = LOGROTATE.read_text("utf-8").replace("/var/log/clerk-logout", str(tmp_path))
    stanza = stanza.replace("su clerk-logout clerk-logout", f"su {user} {user}")
    (tmp_path / "logrotate").write_text(stanza, "utf-8")
    if has_events:
        (tmp_path / "events-8001.jsonl").touch()
    state, configuration = tmp_path / "state", tmp_path / "logrotate"
    command: list[str | Path] = [need("logrotate", "logrotate"), "--force", "--state", state, configuration]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.glob("events*")] == (["events-8001.jsonl.1"] if has_events else [])

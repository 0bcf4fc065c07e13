"""``python -m service sandbox``, as a newcomer meets it."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.sandbox.command import EventReader
from tests.support.lines import read_line
from tests.support.processes import TIMEOUT, environment


class Sandbox:
    """A started sandbox and what it printed."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        self.banner = ""
        assert process.stderr is not None
        for line in process.stderr:
            self.banner += line.decode()
            if "Ctrl-C ends it" in self.banner:
                return
        raise AssertionError(f"it did not start: {self.banner}")

    @property
    def service_url(self) -> str:
        (url,) = re.findall(r"^The service runs at (http://\S+),", self.banner)
        return str(url)

    @property
    def clerk_url(self) -> str:
        (url,) = re.findall(r"stand-in for Clerk at (http://\S+)\.", self.banner)
        return str(url)

    @property
    def curls(self) -> list[str]:
        return re.findall(r"^ +(curl .*)$", self.banner, re.MULTILINE)

    def next_event(self) -> dict[str, object]:
        assert self.process.stdout is not None
        return read_line(self.process.stdout.readline())


@contextmanager
def start_sandbox(**variables: str) -> Iterator[Sandbox]:
    process = subprocess.Popen(
        [sys.executable, "-m", "service", "sandbox", "--port", "0", "--clerk-port", "0"],
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield Sandbox(process)
    finally:
        process.terminate()
        process.communicate(timeout=TIMEOUT)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with start_sandbox() as sandbox:
        yield sandbox


def run(command: str) -> str:
    return subprocess.run(command, shell=True, capture_output=True, text=True, timeout=TIMEOUT, check=True).stdout  # noqa: S602 - it is what the sandbox asks people to do


@pytest.mark.parametrize(("number", "auth"), [(0, "verified"), (1, "absent")])
def test_the_printed_curls_work_as_they_are(sandbox: Sandbox, number: int, auth: str) -> None:
    head, _, body = run(sandbox.curls[number]).partition("\n\n")
    assert head.startswith("HTTP/1.1 200 OK")
    event = sandbox.next_event()
    assert event["auth"] == auth
    assert json.loads(body)["event_id"] == event["event_id"]
    assert json.loads(body)["recorded"] is True


def test_the_printed_curl_says_whose_token_it_is(sandbox: Sandbox) -> None:
    head, _, body = run(sandbox.curls[2]).partition("\n\n")
    assert head.startswith("HTTP/1.1 200 OK")
    assert json.loads(body)["user_id"].startswith("user_")
    assert json.loads(body)["session_id"].startswith("sess_")


def test_the_printed_curl_ends_a_session_at_clerk_only_and_the_service_learns_of_it(sandbox: Sandbox) -> None:
    head, _, body = run(sandbox.curls[3]).partition("\n\n")
    assert head.startswith("HTTP/1.1 200 OK")
    event = sandbox.next_event()
    assert (event["event"], event["cause"], event["source"]) == ("session_ended", "revoked", "clerk_webhook")
    assert event["session_id"] == json.loads(body)["id"]


def test_it_listens_on_the_loopback_address_only(sandbox: Sandbox) -> None:
    assert re.findall(r"http://([^:/]+):", sandbox.banner) == ["127.0.0.1"] * 10


def test_the_environment_does_not_reach_it() -> None:
    """A real instance's settings in the shell neither break the sandbox nor are touched by it; nor does a proxy."""
    real = {"CLERK_JWT_KEY": "junk", "CLERK_SECRET_KEY": "sk_live_real", "HOST": "0.0.0.0", "EVENT_LOG": "/no"}
    with start_sandbox(**real, HTTP_PROXY="http://127.0.0.1:9", ALL_PROXY="http://127.0.0.1:9") as sandbox:
        run(sandbox.curls[0])
        assert sandbox.next_event()["auth"] == "verified"


def test_a_signal_ends_it_cleanly() -> None:
    with start_sandbox() as sandbox:
        sandbox.process.terminate()
        assert sandbox.process.wait(TIMEOUT) == 0


def test_it_goes_on_when_nobody_reads_its_events_any_more() -> None:
    with start_sandbox() as sandbox:
        assert sandbox.process.stdout is not None
        sandbox.process.stdout.close()
        for _ in range(3):
            assert run(sandbox.curls[1]).startswith("HTTP/1.1 200 OK")
        sandbox.process.terminate()
        assert sandbox.process.wait(TIMEOUT) == 0


def test_a_port_in_use_is_one_line(sandbox: Sandbox) -> None:
    port = sandbox.clerk_url.rpartition(":")[2]
    done = subprocess.run(
        [sys.executable, "-m", "service", "sandbox", "--port", port],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.stderr == f"clerk-logout: --port: {port} on 127.0.0.1 is in use already\n"
    assert done.returncode == 2


def test_the_reader_gives_whole_lines_only(tmp_path: Path) -> None:
    log = tmp_path / "log"
    reader = EventReader(log)
    assert reader.after(0) == ([], 0)
    log.write_bytes(b"one\ntw")
    assert reader.after(0) == (["one"], 4)
    log.write_bytes(b"one\ntwo\n")
    assert reader.after(4) == (["two"], 8)


def test_the_reader_starts_over_for_a_page_of_an_earlier_sandbox(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"one\n")
    assert EventReader(log).after(999) == (["one"], 4)

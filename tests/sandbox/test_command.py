"""``python -m service sandbox``, as a newcomer meets it."""

import json
import signal
import sys
import tomllib
from collections.abc import Iterator

import httpx
import pytest
from click.testing import CliRunner

from service.cli import main
from tests.support.processes import ROOT, TIMEOUT
from tests.support.sandbox import Sandbox, run, start_sandbox


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """A real instance's settings and a proxy are in its shell, and do not reach it."""
    real = {"CLERK_JWT_KEY": "junk", "CLERK_SECRET_KEY": "sk_live_real", "HOST": "0.0.0.0", "EVENT_LOG": "/no"}
    with start_sandbox(**real, HTTP_PROXY="http://127.0.0.1:9", ALL_PROXY="http://127.0.0.1:9") as sandbox:
        yield sandbox


def test_the_printed_curl_logs_out(sandbox: Sandbox) -> None:
    (curl,) = sandbox.curls
    head, _, body = run(curl).partition("\n\n")
    assert head.startswith("HTTP/1.1 200 OK")
    event = sandbox.next_event()
    assert event["auth"] == "verified"
    assert json.loads(body)["event_id"] == event["event_id"]


def test_an_end_at_clerk_reaches_the_service_as_a_webhook(sandbox: Sandbox) -> None:
    (session,) = httpx.post(f"{sandbox.clerk_url}/sandbox/sign-in").json()["response"]["sessions"]
    httpx.post(f"{sandbox.clerk_url}/sandbox/sessions/{session['id']}/end")
    event = sandbox.next_event()
    assert (event["event"], event["cause"], event["session_id"]) == ("session_ended", "revoked", session["id"])


def test_the_page_is_given_each_line_before_the_answer(sandbox: Sandbox) -> None:
    seen = httpx.get(f"{sandbox.clerk_url}/sandbox/events").json()["next"]
    answer = httpx.delete(f"{sandbox.service_url}/v1/auth/session").json()
    (line,) = httpx.get(f"{sandbox.clerk_url}/sandbox/events?after={seen}").json()["lines"]
    assert json.loads(line) == sandbox.next_event()
    assert json.loads(line)["event_id"] == answer["event_id"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_the_moment_of_the_banner_ends_it_in_order(number: signal.Signals) -> None:
    """Without a traceback or a word from asyncio; the keys that could not be fetched any more may be mentioned."""
    with start_sandbox() as sandbox:
        sandbox.process.send_signal(number)
        assert sandbox.process.wait(TIMEOUT) == 0
        assert sandbox.process.stderr is not None
        for line in sandbox.process.stderr:
            assert json.loads(line)["message"]


def test_it_goes_on_when_nobody_reads_its_events_any_more() -> None:
    with start_sandbox() as sandbox:
        assert sandbox.process.stdout is not None
        sandbox.process.stdout.close()
        for _ in range(3):
            assert httpx.delete(f"{sandbox.service_url}/v1/auth/session").status_code == 200
        sandbox.process.terminate()
        assert sandbox.process.wait(TIMEOUT) == 0


def test_the_packaged_command_is_python_m_service() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["scripts"] == {"clerk-logout": "service.__main__:main"}


def test_a_port_in_use_is_one_line(sandbox: Sandbox) -> None:
    port = sandbox.clerk_url.rpartition(":")[2]
    result = CliRunner().invoke(main, ["sandbox", "--port", port])
    assert result.stderr == f"clerk-logout: --port: cannot listen on port {port} of 127.0.0.1: Address already in use\n"
    assert result.exit_code == 2


def test_where_it_is_not_installed_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "service.sandbox.command", None)
    result = CliRunner().invoke(main, ["sandbox"])
    assert result.exit_code == 2
    assert result.stderr.startswith("clerk-logout: service.sandbox.command is missing: the production image")

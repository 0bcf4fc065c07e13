"""A real uvicorn, as ``python -m service serve`` starts it."""

import errno
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil  # type: ignore[import-untyped]
import pytest

from service.server import listen, url_of
from service.settings import ConfigurationError
from tests.support.disks import refuse
from tests.support.lines import EventFile, read_line, read_lines
from tests.support.processes import TIMEOUT, Server, environment, request_under_way, serve, wait_until
from tests.support.served_clerk import serve_clerk
from tests.support.webhooks import SECRET

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def logout(server: Server, token: str | None = None) -> httpx.Response:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return httpx.delete(f"{server.url}/v1/auth/session", headers=headers, timeout=TIMEOUT)


# --- Events ----------------------------------------------------------------------------------------------------------


def test_the_reader_of_a_fifo_sees_its_end(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)  # there before the service, which would not wait for it
    with serve(settings={"EVENT_LOG": str(fifo)}) as server:
        event_id = logout(server).json()["event_id"]
        assert server.stop() == 0
    assert read_line(os.read(reader, 1 << 16))["event_id"] == event_id
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_stdout_is_events_only_and_stderr_json_only() -> None:
    """A variable that looks mistyped is one of the things that it says there."""
    with serve(subprocess.PIPE, {"LOG_LEVEL": "debug", "EVENT_LOGS": "events.jsonl"}) as server:
        logout(server, "not.a.token")
        server.process.terminate()
        assert server.process.stdout is not None
        events = read_lines(server.process.stdout)
        server.stop()
    assert [event["auth"] for event in events] == ["rejected"]
    assert {"level", "logger", "message", "timestamp"} <= set(server.diagnostics[0])
    said = [line["message"] for line in server.diagnostics if line["level"] == "warning"]
    assert said == ["EVENT_LOGS is not a setting and is ignored; did you mean EVENT_LOG?"]
    assert "not.a.token" not in json.dumps(server.diagnostics)


def test_a_client_that_hangs_up_is_recorded(tmp_path: Path) -> None:
    events = EventFile(tmp_path / "events.jsonl")
    with serve(settings={"EVENT_LOG": str(events.path)}) as server:
        with socket.create_connection(server.address) as hasty:
            hasty.sendall(b"DELETE /v1/auth/session HTTP/1.1\r\nHost: service\r\nX-Request-ID: hasty\r\n\r\n")
        logout(server)  # connections are accepted in their order, so the hasty one has been by now
        assert server.stop() == 0
    assert "hasty" in {event["request_id"] for event in events.new()}


# --- Connections -----------------------------------------------------------------------------------------------------


def test_the_limit_of_open_files_is_raised() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    low = psutil.Process().num_fds() + 64  # we need some, too
    resource.setrlimit(resource.RLIMIT_NOFILE, (low, hard))  # the service inherits it from us
    try:
        with serve() as server:
            assert psutil.Process(server.process.pid).rlimit(psutil.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_malformed_requests_do_not_fill_the_log() -> None:
    with serve() as server:
        for request in (
            b"\0\r\n\r\n",
            b"GET /no HTTP/1.1\r\nHost: a\r\nUpgrade: a\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
        ):
            with socket.create_connection(server.address, TIMEOUT) as stranger:
                stranger.sendall(request)
                assert stranger.recv(100).startswith(b"HTTP/1.1 4")
        server.stop()
    assert not [line for line in server.diagnostics if line["level"] != "info"]


# --- The end ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", ENDING, ids=lambda number: number.name)
def test_a_signal_ends_it_with_exit_code_0(number: signal.Signals) -> None:
    """Those of log rotation do not."""
    with serve() as server:
        for ignored in (signal.SIGUSR1, signal.SIGUSR2):
            server.process.send_signal(ignored)
        assert logout(server).status_code == 200
        assert server.stop(number) == 0


@pytest.mark.parametrize("number", ENDING, ids=lambda number: number.name)
def test_a_signal_during_the_imports_ends_it_with_0(tmp_path: Path, number: signal.Signals) -> None:
    """A module that every import of the service meets says that it is importing, and waits."""
    (tmp_path / "click.py").write_text("import sys, time\nprint('importing', flush=True)\ntime.sleep(60)\n", "utf-8")
    command = [sys.executable, "-c", "import sys; sys.argv[1:] = ['serve']; from service.__main__ import main; main()"]
    with subprocess.Popen(command, env=environment(PYTHONPATH=f"{tmp_path}:."), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"importing\n"
        process.send_signal(signal.SIGUSR1)
        process.send_signal(number)
        assert process.wait(TIMEOUT) == 0


@pytest.mark.parametrize("second", ENDING, ids=lambda number: number.name)
def test_a_second_signal_ends_it_at_once(second: signal.Signals) -> None:
    with serve(settings={"CLERK_WEBHOOK_SIGNING_SECRET": SECRET}) as server, request_under_way(server):
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("Waiting for connections to close")
        expected = signal.SIGTERM if second is signal.SIGHUP else second
        assert server.stop(second) == 128 + expected


def test_a_shutdown_answers_a_sign_out_with_how_far_it_got(tmp_path: Path) -> None:
    """Clerk ends one session and hangs for 60, which would take longer than the service may take to end."""
    events = EventFile(tmp_path / "events.jsonl")
    with serve_clerk() as clerk, ThreadPoolExecutor(1) as pool:
        headers = {"Authorization": f"Bearer {clerk.token('user_a')}"}
        clerk.hanging = {clerk.instance.sign_in("user_a").id for _ in range(60)}
        clerk.instance.sign_in("user_a")
        settings = {"EVENT_LOG": str(events.path), "REVOCATIONS_URL": "memory://"}
        with serve(settings=clerk.settings() | settings) as server:
            url = f"{server.url}/v1/auth/sessions"
            call = pool.submit(lambda: httpx.delete(url, headers=headers, timeout=TIMEOUT))
            assert clerk.hangs.wait(TIMEOUT)
            wait_until(lambda: "revoked" in clerk.statuses("user_a"), "the end of one")
            assert server.stop() == 0
            answer = call.result()
    event = events.one()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "x-request-id" in answer.headers
    body = answer.json()
    assert (body["reason"], body["revoked_sessions"], body["failed_sessions"]) == ("clerk-timeout", 1, 61)
    assert (body["event_id"], event["revoked_sessions"], event["failed_sessions"]) == (event["event_id"], 1, 61)
    assert not [line for line in server.diagnostics if line["level"] == "error"]


# --- Mistakes in settings --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"CLERK_JWT_KEY": "eyJ.sesame.token"}, "CLERK_JWT_KEY: is not a PEM public key"),
        ({"EVENT_LOG": "/no/such/place"}, "EVENT_LOG: cannot be opened for writing: /no/such/place: No such file"),
        ({"HOST": "no host"}, "HOST: cannot be resolved to an address"),
        ({"HOST": "fe80::7%lo"}, "HOST: cannot listen on fe80::7%lo: Cannot assign"),
    ],
)
def test_a_mistake_in_a_setting_is_one_line_and_exit_code_2(settings: dict[str, str], line: str) -> None:
    command = [sys.executable, "-m", "service", "serve"]
    done = subprocess.run(
        command, env=environment(**settings), capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"clerk-logout: {line}")
    assert done.stderr.count("\n") == 1
    assert "sesame" not in done.stderr
    assert done.stdout == ""


def test_a_port_that_needs_privileges_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests may run as root, whom no port is refused; hence the one stand-in for the system call."""
    monkeypatch.setattr(socket, "create_server", refuse(errno.EACCES))
    with pytest.raises(ConfigurationError, match=r"^PORT: cannot listen on port 80 of 127.0.0.1: Permission denied"):
        listen("127.0.0.1", 80)


def test_every_address_includes_ipv4_and_ipv6() -> None:
    with listen("::", 0)[0] as listener:
        port = listener.getsockname()[1]
        assert url_of(listener) == f"http://[::]:{port}"
        socket.create_connection(("127.0.0.1", port), TIMEOUT).close()


def test_a_name_is_listened_on_at_each_of_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolver is the one stand-in: not every machine has a name with two addresses."""
    answer = [(socket.AF_INET, 0, 0, "", (host, 0)) for host in ("127.0.0.1", "192.0.2.1", "127.0.0.1", "127.0.0.2")]
    resolve = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *args, **kw: answer if host == "both" else resolve(host, *args, **kw)
    )
    listeners = listen("both", 0)
    (port,) = {listener.getsockname()[1] for listener in listeners}
    assert [url_of(listener) for listener in listeners] == [f"http://127.0.0.{n}:{port}" for n in (1, 2)]
    with listeners[0], listeners[1]:
        with pytest.raises(ConfigurationError, match=r"^PORT: cannot listen on port \d+ of both: Address already"):
            listen("both", port)
        answer[:] = answer[1:2]
        with pytest.raises(ConfigurationError, match=r"^HOST: cannot listen on both: Cannot assign"):
            listen("both", 0)


def test_an_idle_connection_lives_as_long_as_it_is_told() -> None:
    """And the server does not name itself."""
    with (
        serve(settings={"KEEP_ALIVE_SECONDS": "1"}) as server,
        socket.create_connection(server.address, TIMEOUT) as one,
    ):
        one.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = b"".join(iter(lambda: one.recv(1 << 12), b""))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nserver:" not in answer.lower()

"""A real uvicorn, as ``python -m service serve`` starts it."""

import contextlib
import http.client
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil  # type: ignore[import-untyped]
import pytest

from service.server import listen, url_of
from service.settings import ConfigurationError
from service.telemetry.nonblocking import InheritedDescriptor
from tests.support.lines import EventFile, read_line, read_lines
from tests.support.processes import TIMEOUT, Server, environment, request_under_way, serve
from tests.support.served_clerk import serve_clerk
from tests.support.signing import token

WORKERS = 2
CLIENTS = 16
REQUESTS = 20_000


def logout(connection: http.client.HTTPConnection, authorization: str | None = None) -> tuple[int, bytes]:
    headers = {} if authorization is None else {"Authorization": f"Bearer {authorization}"}
    connection.request("DELETE", "/v1/auth/session", headers=headers)
    response = connection.getresponse()
    return response.status, response.read()


def one_logout(address: tuple[str, int], authorization: str | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(*address, timeout=TIMEOUT)
    try:
        return logout(connection, authorization)
    finally:
        connection.close()


def test_two_workers_on_one_pipe_write_every_event_once_and_tear_none() -> None:
    """20,000 requests of a real client: as many lines, each true to its schema, no id twice."""
    read_end, write_end = os.pipe()
    lines: list[bytes] = []
    with os.fdopen(read_end, "rb") as pipe:
        reader = threading.Thread(target=lambda: lines.extend(pipe))
        reader.start()
        with serve(write_end, {"WORKERS": str(WORKERS)}) as server:
            os.close(write_end)
            session_token = token()

            def client(number: int) -> list[tuple[int, bytes]]:
                connection = http.client.HTTPConnection(*server.address, timeout=TIMEOUT)
                # Every other request carries a token, so that lines of different lengths meet in the pipe.
                answers = [
                    logout(connection, session_token if count % 2 else None) for count in range(REQUESTS // CLIENTS)
                ]
                connection.close()
                assert number < CLIENTS
                return answers

            with ThreadPoolExecutor(CLIENTS) as clients:
                answers = [answer for some in clients.map(client, range(CLIENTS)) for answer in some]
            assert server.stop() == 0
        reader.join(TIMEOUT)

    assert Counter(status for status, _ in answers) == {200: REQUESTS}
    acknowledged = {json.loads(body)["event_id"] for _, body in answers if json.loads(body)["recorded"]}
    events = read_lines(lines)
    assert len(events) == REQUESTS
    assert {event["event_id"] for event in events} == acknowledged
    assert len(acknowledged) == REQUESTS
    assert Counter(event["auth"] for event in events) == {"verified": REQUESTS // 2, "absent": REQUESTS // 2}


def test_two_workers_on_one_file_write_every_event_once_and_nothing_else(tmp_path: Path) -> None:
    event_log = tmp_path / "events.jsonl"
    with serve(settings={"WORKERS": "2", "EVENT_LOG": str(event_log)}) as server:

        def client(_: int) -> list[tuple[int, bytes]]:
            connection = http.client.HTTPConnection(*server.address, timeout=TIMEOUT)
            answers = [logout(connection) for _ in range(500)]
            connection.close()
            return answers

        with ThreadPoolExecutor(CLIENTS) as clients:
            answers = [answer for some in clients.map(client, range(CLIENTS)) for answer in some]
        assert server.stop() == 0
    events = read_lines(event_log.read_bytes().splitlines(keepends=True))
    # On a disk that is slow for a moment a line may come twice (at least once), and an answer may say that it is late.
    acknowledged = {json.loads(body)["event_id"] for _, body in answers if json.loads(body)["recorded"]}
    assert (
        acknowledged <= {event["event_id"] for event in events} <= {json.loads(body)["event_id"] for _, body in answers}
    )


def test_two_workers_write_to_a_fifo_whose_reader_sees_one_end(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    lines: list[bytes] = []

    def read() -> None:
        with fifo.open("rb") as pipe:
            lines.extend(pipe)

    reader = threading.Thread(target=read)
    reader.start()
    with serve(settings={"WORKERS": "2", "EVENT_LOG": str(fifo)}) as server:
        _, body = one_logout(server.address)
        assert server.stop() == 0
    reader.join(TIMEOUT)
    (event,) = read_lines(lines)
    assert event["event_id"] == json.loads(body)["event_id"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_signal_ends_it_with_exit_code_0(number: signal.Signals, workers: str) -> None:
    with serve(settings={"WORKERS": workers}) as server:
        assert one_logout(server.address)[0] == 200
        assert server.stop(number) == 0


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_second_signal_ends_it_at_once(workers: str, first: signal.Signals, second: signal.Signals) -> None:
    with serve(settings={"WORKERS": workers}) as server, request_under_way(server.address):
        server.process.send_signal(first)
        server.wait_for("Received SIG" if workers == "2" else "Waiting for connections to close")
        assert server.stop(second) == 128 + second  # and nobody is left who holds its standard error


def test_workers_that_hang_are_killed_at_the_end() -> None:
    with serve(settings={"WORKERS": "2"}) as server:
        workers = workers_of(server)
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("Received SIGTERM")
        for worker in workers:
            worker.suspend()
        assert server.stop(0) == 0  # and nobody is left who holds its standard error


def test_workers_end_when_their_parent_is_gone(tmp_path: Path) -> None:
    """And do so as after a SIGTERM: the event log is closed, the diagnostics say so."""
    with serve(settings={"WORKERS": "2", "EVENT_LOG": str(tmp_path / "events.jsonl")}) as server:
        workers_of(server)
        assert one_logout(server.address)[0] == 200
        server.process.kill()
        _, err = server.process.communicate(timeout=TIMEOUT)  # until nobody holds its standard error
    assert err.count(b"Finished server process") == 2


def workers_of(server: Server, count: int = 2) -> list[psutil.Process]:
    """The workers, once all of them serve."""
    server.wait_for("Application startup complete", times=count)
    # Beside the workers there is multiprocessing's resource tracker.
    children = psutil.Process(server.process.pid).children()
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def test_there_may_be_as_many_connections_as_the_system_allows() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as idle:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))  # the service inherits it from us
        try:
            server = idle.enter_context(serve())
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert psutil.Process(server.process.pid).rlimit(psutil.RLIMIT_NOFILE) == (hard, hard)
        for _ in range(300):
            idle.enter_context(socket.create_connection(server.address, TIMEOUT))
        assert one_logout(server.address)[0] == 200


def test_the_event_is_on_stdout_before_the_answer_and_survives_sigkill() -> None:
    with serve(subprocess.PIPE) as server:
        _, body = one_logout(server.address)
        server.process.kill()
        assert server.process.stdout is not None
        assert read_line(server.process.stdout.read())["event_id"] == json.loads(body)["event_id"]


def test_stdout_carries_nothing_but_events_and_stderr_nothing_but_json() -> None:
    with serve(subprocess.PIPE, {"LOG_LEVEL": "debug"}) as server:
        one_logout(server.address, "not.a.token")
        server.process.terminate()
        assert server.process.stdout is not None
        events = read_lines(server.process.stdout)
        server.stop()
    assert [event["auth"] for event in events] == ["rejected"]
    assert {"level", "logger", "message", "timestamp"} <= set(server.diagnostics[0])
    assert "not.a.token" not in json.dumps(server.diagnostics)


def test_the_server_does_not_name_itself() -> None:
    with serve() as server:
        connection = http.client.HTTPConnection(*server.address, timeout=TIMEOUT)
        connection.request("DELETE", "/v1/auth/session")
        headers = connection.getresponse().headers
        connection.close()
    assert "server" not in headers
    assert "date" in headers


def test_the_client_address_comes_from_a_trusted_proxy_only(tmp_path: Path) -> None:
    event_log = tmp_path / "events.jsonl"
    settings = {"EVENT_LOG": str(event_log), "EVENT_CLIENT_IP": "true"}
    seen = []
    for trusted in ("127.0.0.1", "192.0.2.1"):
        with serve(settings=settings | {"FORWARDED_ALLOW_IPS": trusted}) as server:
            connection = http.client.HTTPConnection(*server.address, timeout=TIMEOUT)
            connection.request("DELETE", "/v1/auth/session", headers={"X-Forwarded-For": "203.0.113.77"})
            connection.getresponse().read()
            connection.close()
            seen.append(read_line(event_log.read_bytes().splitlines(keepends=True)[-1])["client_ip"])
    assert seen == ["203.0.113.0", "127.0.0.0"]


def test_what_a_trusted_proxy_passes_on_is_no_address_only_because_it_stands_there(tmp_path: Path) -> None:
    event_log = tmp_path / "events.jsonl"
    with serve(settings={"EVENT_LOG": str(event_log), "EVENT_CLIENT_IP": "true"}) as server:
        with socket.create_connection(server.address, TIMEOUT) as connection:
            connection.sendall(
                b'DELETE /v1/auth/session HTTP/1.1\r\nX-Forwarded-For: evil\x80[31m"}{\r\nConnection: close\r\n\r\n'
            )
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        server.stop()
    assert "client_ip" not in read_line(event_log.read_bytes())


def test_a_client_that_hangs_up_is_recorded_all_the_same(tmp_path: Path) -> None:
    event_log = tmp_path / "events.jsonl"
    with serve(settings={"EVENT_LOG": str(event_log)}) as server:
        hasty = socket.create_connection(server.address)
        hasty.sendall(b"DELETE /v1/auth/session HTTP/1.1\r\nHost: service\r\nX-Request-ID: hasty\r\n\r\n")
        hasty.close()
        one_logout(server.address)  # connections are accepted in their order, so the hasty one has been by now
        assert server.stop() == 0
    events = read_lines(event_log.read_bytes().splitlines(keepends=True))
    assert "hasty" in {event["request_id"] for event in events}


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        pytest.param({"CLERK_JWT_KEY": ""}, "clerk-logout: CLERK_JWT_KEY: set this or CLERK_SECRET_KEY", id="no key"),
        pytest.param({"CLERK_JWT_KEY": "junk"}, "clerk-logout: CLERK_JWT_KEY: is not a PEM public key", id="no PEM"),
        pytest.param({"EVENT_LOG": "/no/such/place"}, "clerk-logout: EVENT_LOG: cannot be opened", id="no directory"),
        pytest.param(
            {"EVENT_LOG": "/no/such/place", "WORKERS": "2"}, "clerk-logout: EVENT_LOG: ", id="of several workers"
        ),
        pytest.param(
            {"EVENT_SPOOL_DIR": "/dev/null/spool"}, "clerk-logout: EVENT_SPOOL_DIR: cannot be written to", id="no spool"
        ),
        pytest.param({"PORT": "http"}, "clerk-logout: PORT: ", id="no number"),
        pytest.param(
            {"CLERK_JWT_KEY": "", "CLERK_SECRET_KEY": "sk_test_x", "HTTPS_PROXY": "foo://proxy"},
            "clerk-logout: CLERK_API_URL: no client can be made (ValueError); look at HTTPS_PROXY",
            id="an unusable proxy",
        ),
        pytest.param({"HOST": "no host"}, "clerk-logout: HOST: ", id="no host"),
    ],
)
def test_a_mistake_in_a_setting_is_one_line_and_exit_code_2(settings: dict[str, str], line: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "service", "serve"],
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_worker_starts_while_the_event_log_cannot_be_opened(tmp_path: Path) -> None:
    """One that takes the place of a dead one must not take the others down with it."""
    event_log = tmp_path / "events.jsonl"
    with serve(settings={"WORKERS": "2", "EVENT_LOG": str(event_log)}) as server:
        acknowledged = [one_logout(server.address)]
        event_log.rename(tmp_path / "events.jsonl.1")
        event_log.mkdir()
        workers = server.workers()
        assert len(workers) == 2
        for worker in workers:
            worker.kill()
        acknowledged += [one_logout(server.address) for _ in range(20)]
        assert server.process.poll() is None
        event_log.rmdir()
        assert server.stop() == 0
    lines = (tmp_path / "events.jsonl.1").read_bytes() + event_log.read_bytes()
    events = read_lines(lines.splitlines(keepends=True))
    assert all(json.loads(body)["recorded"] for _, body in acknowledged)
    assert {json.loads(body)["event_id"] for _, body in acknowledged} == {event["event_id"] for event in events}


def test_sighup_ends_a_single_process_as_sigterm_does(tmp_path: Path) -> None:
    with serve(settings={"EVENT_LOG": str(tmp_path / "events.jsonl")}) as server:
        assert one_logout(server.address)[0] == 200
        assert server.stop(signal.SIGHUP) == 0


def test_a_port_in_use_is_named() -> None:
    with (
        listen("127.0.0.1", 0) as taken,
        pytest.raises(ConfigurationError, match=r"^PORT: \d+ on 127\.0\.0\.1 is in use"),
    ):
        listen("127.0.0.1", taken.getsockname()[1])


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"^HOST: cannot listen on 192\.0\.2\.1"):
        listen("192.0.2.1", 0)


def test_a_port_that_needs_privileges_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests may run as root, whom no port is refused; hence the one stand-in for the system call."""

    def refuse(*_: object, **__: object) -> socket.socket:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket, "create_server", refuse)
    with pytest.raises(ConfigurationError, match=r"^PORT: 80 may not be opened"):
        listen("127.0.0.1", 80)


def test_every_address_includes_ipv4_and_ipv6() -> None:
    with listen("::", 0) as listener:
        port = listener.getsockname()[1]
        assert url_of(listener) == f"http://[::]:{port}"
        with socket.create_connection(("127.0.0.1", port), TIMEOUT):
            pass


def test_a_stderr_that_nobody_reads_stops_nothing(tmp_path: Path) -> None:
    """Events and diagnostics often go to one reader; it must not be able to hold the service, or its end."""
    reader, writer = os.pipe()
    fill = InheritedDescriptor(writer)
    with contextlib.suppress(BlockingIOError):
        while True:
            fill.write(b"#" * 4095 + b"\n")
    event_log = tmp_path / "events.jsonl"
    with listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "service", "serve"],
        env=environment(PORT=str(port), EVENT_LOG=str(event_log), EVENT_SPOOL_DIR=str(tmp_path / "spool")),
        stderr=writer,
    )
    try:
        started = time.monotonic()
        while time.monotonic() < started + TIMEOUT:
            with contextlib.suppress(ConnectionRefusedError):
                assert one_logout(("127.0.0.1", port))[0] == 200
                break
        process.terminate()
        assert process.wait(TIMEOUT) == 0
        assert len(read_lines(event_log.read_bytes().splitlines(keepends=True))) == 1
    finally:
        process.kill()
        process.wait()
        os.close(reader)
        os.close(writer)
        fill.close()


def test_malformed_requests_of_strangers_do_not_fill_the_log() -> None:
    with serve(subprocess.PIPE) as server:
        for _ in range(3):
            with socket.create_connection(server.address, TIMEOUT) as stranger:
                stranger.sendall(b"\0\r\n\r\n")
                assert stranger.recv(100).startswith(b"HTTP/1.1 400")
        server.stop()
    assert "Invalid HTTP" not in json.dumps(server.diagnostics)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_shutdown_answers_who_signs_out_everywhere_with_how_far_it_got(tmp_path: Path, workers: str) -> None:
    """Clerk ends one session and hangs for 60, which would take longer than the service may take to end."""
    events = EventFile(tmp_path / "events.jsonl")
    with serve_clerk() as clerk, ThreadPoolExecutor(1) as pool:
        headers = {"Authorization": f"Bearer {clerk.token('user_a')}"}
        clerk.hanging = {clerk.instance.sign_in("user_a").id for _ in range(60)}
        clerk.instance.sign_in("user_a")
        settings = clerk.settings() | {
            "EVENT_LOG": str(events.path),
            "WORKERS": workers,
            "REVOCATIONS_URL": "memory://",
        }
        with serve(settings=settings) as server:
            url = f"{server.url}/v1/auth/sessions"
            call = pool.submit(lambda: httpx.delete(url, headers=headers, timeout=TIMEOUT))
            assert clerk.hangs.wait(TIMEOUT)
            assert server.stop() == 0
            answer = call.result()
    event = events.one()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "x-request-id" in answer.headers
    body = answer.json()
    assert (body["reason"], body["revoked_sessions"], body["failed_sessions"]) == ("clerk-timeout", 1, 61)
    assert (body["event_id"], event["revoked_sessions"], event["failed_sessions"]) == (event["event_id"], 1, 61)
    assert not [line for line in server.diagnostics if line["level"] == "error"]

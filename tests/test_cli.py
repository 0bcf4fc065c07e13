"""The command line, as a person uses it."""

import json
import os
import re
import select
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import jsonschema_rs
import pytest
import respx
from click.testing import CliRunner, Result

from service import __version__
from service.cli import main
from service.sandbox.app import create_sandbox
from service.sandbox.instance import Instance
from tests.support.processes import TIMEOUT, environment, serve
from tests.support.redis_server import redis_server
from tests.support.signing import ISSUER, ORIGIN, claims, header, pem, token, token_of
from tests.support.webhooks import SECRET

Check = Callable[..., Result]


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Check:
    """Run ``check`` with the given environment; its input is standard input."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, stdin: str | None = None, **variables: str) -> Result:
        for name, value in (
            {"CLERK_JWT_KEY": pem(), "EVENT_LOG": "events.jsonl", "EVENT_SPOOL_DIR": "spool"} | variables
        ).items():
            monkeypatch.setenv(name, value)
        return CliRunner().invoke(main, ["check", *arguments], input=stdin)

    return run


def test_check_explains_the_configuration(check: Check) -> None:
    result = check(CLERK_AUTHORIZED_PARTIES=ORIGIN, CLERK_ISSUER=ISSUER)
    assert result.output.splitlines() == [
        "event log: events.jsonl",
        "spool: spool, at most 1073741824 bytes",
        f"authorized parties and CORS origins: {ORIGIN}",
        f"issuer: {ISSUER}",
        "sign out everywhere: off (CLERK_SECRET_KEY is not set)",
        "webhooks: off (CLERK_WEBHOOK_SIGNING_SECRET is not set)",
        "EVENT_FSYNC: false",
        "EVENT_CLIENT_IP: false",
        "EVENT_USER_AGENT: false",
        "FLOOD_PER_SECOND: 50",
        "FLOOD_PER_SESSION: 20",
        "FORWARDED_ALLOW_IPS: 127.0.0.1/32, ::1/128",
        "REVOCATIONS_FAIL: closed",
        "HOST: 127.0.0.1",
        "PORT: 8000",
        "WORKERS: 1",
        "LOG_LEVEL: info",
        "keys: one RSA key of 2048 bits from CLERK_JWT_KEY; Clerk is not asked",
        "revocation list: in memory, of each process by itself; ok",
    ]
    assert result.exit_code == 0


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://user:sesame@127.0.0.1:1/3", "Redis at 127.0.0.1:1, database 3; Redis: it cannot be reached: "),
        ("rediss://:sesame@127.0.0.1:1", "Redis at 127.0.0.1:1, database 0 with TLS; Redis: it "),
    ],
)
def test_check_says_where_the_revocation_list_is_and_shows_no_password(check: Check, url: str, said: str) -> None:
    result = check(REVOCATIONS_URL=url)
    assert f"revocation list: {said}" in result.output
    assert "sesame" not in result.output
    assert result.exit_code == 1


def test_check_is_content_with_a_redis_that_answers(check: Check) -> None:
    with redis_server() as redis:
        result = check(REVOCATIONS_URL=redis.url)
    assert f"revocation list: Redis at 127.0.0.1:{redis.port}, database 0; ok" in result.output
    assert result.exit_code == 0


def test_check_refuses_a_wrong_revocations_url_without_showing_it(check: Check) -> None:
    result = check(REVOCATIONS_URL="redis://:sesame@127.0.0.1/zero")
    assert result.exit_code == 2
    assert result.stderr.startswith("clerk-logout: REVOCATIONS_URL: ")
    assert result.stderr.count("\n") == 1
    assert "sesame" not in result.output + result.stderr


@pytest.mark.parametrize(
    ("max_age", "reverification"), [("", "reverification off"), ("10", "reverification after 10 minutes")]
)
def test_check_says_where_sessions_are_ended(check: Check, max_age: str, reverification: str) -> None:
    """With a PEM beside it the secret key is for that alone, and nothing is asked now."""
    result = check(CLERK_SECRET_KEY="sk_test_sandbox", REVERIFICATION_MAX_AGE_MINUTES=max_age)
    assert f"sign out everywhere: through https://api.clerk.com, {reverification}\n" in result.output
    assert "keys: one RSA key of 2048 bits from CLERK_JWT_KEY; Clerk is not asked" in result.output
    assert result.exit_code == 0


def test_check_tells_of_workers_that_do_not_know_of_each_others_sign_outs(check: Check) -> None:
    assert "REVOCATIONS_URL: with memory:// each of the 3 workers has" in check(WORKERS="3").output


def test_check_says_that_webhooks_are_on(check: Check) -> None:
    output = check(CLERK_WEBHOOK_SIGNING_SECRET=SECRET).output
    assert "\nwebhooks: on\n" in output
    assert SECRET not in output


def test_check_wonders_about_names_that_are_nearly_a_settings(check: Check, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("REVOCATION_URL=redis://:sesame@127.0.0.1\n", "utf-8")
    output = check(CLERK_WEBHOOK_SECRET=SECRET, CLERK_PUBLISHABLE_KEY="pk_test_x").output
    assert "CLERK_WEBHOOK_SECRET: not known, so without effect; is CLERK_WEBHOOK_SIGNING_SECRET meant?" in output
    assert "REVOCATION_URL: not known, so without effect; is REVOCATIONS_URL meant?" in output
    assert output.count("REVOCATION_URL: ") == 1
    assert "PUBLISHABLE" not in output
    assert "sesame" not in output
    assert SECRET not in output


def test_check_says_of_a_token_that_its_session_is_signed_out(check: Check) -> None:
    with redis_server() as redis:
        assert check("--token", token(), REVOCATIONS_URL=redis.url).exit_code == 0
        with serve(settings={"REVOCATIONS_URL": redis.url}) as service:
            httpx.delete(f"{service.url}/v1/auth/session", headers={"Authorization": f"Bearer {token()}"})
        result = check("--token", token(), REVOCATIONS_URL=redis.url)
    assert "token: verified\n" in result.output
    assert re.search(r"^  signed out: \S+Z, so it is refused \(session-revoked\)$", result.output, re.MULTILINE)
    assert result.exit_code == 1


def test_check_judges_a_token_also_where_redis_cannot_be_asked(check: Check) -> None:
    result = check("--token", token(), REVOCATIONS_URL="redis://127.0.0.1:1")
    assert "token: verified\n" in result.output
    assert "signed out" not in result.output


def test_check_says_what_is_left_open(check: Check) -> None:
    output = check(EVENT_LOG="-").output
    assert "event log: standard output" in output
    assert "authorized parties: any" in output
    assert "issuer: any" in output


def test_check_shows_who_a_good_token_names(check: Check) -> None:
    result = check("--token", token(claims(o={"id": "org_1"}, act={"sub": "user_admin"})))
    assert "token: verified\n" in result.output
    assert "user:     user_2xyzUVW" in result.output
    assert "session:  sess_2abcDEF" in result.output
    assert "organisation: org_1, actor: user_admin" in result.output
    assert result.exit_code == 0


@pytest.mark.parametrize(
    ("sent", "lines"),
    [
        pytest.param(
            token(claims(azp="https://evil.example")),
            [
                "token-invalid-authorized-parties",
                "azp",
                "https://evil.example",
                "an origin in CLERK_AUTHORIZED_PARTIES",
            ],
            id="azp",
        ),
        pytest.param(
            token(claims(now=1)), ["expired (token-expired)", "exp", "s behind", "at most 5 s behind"], id="exp"
        ),
        pytest.param(token(head=header(alg="HS256")), ["rejected (token-invalid)", "alg", "HS256", "RS256"], id="alg"),
        pytest.param(token(head=header(kid={"a": "\x1b"})), ["rejected (token-invalid)", "kid", "an object"], id="kid"),
        pytest.param(token(claims(sub="\x1b[31m")), ["sub", r'"\u001b[31m"', "1-128 visible ASCII"], id="escape"),
        pytest.param(token(claims(sub="x" * 500)), ["sub", f"{'x' * 120}…\n", "1-128 visible ASCII"], id="long"),
        pytest.param(
            token_of(b'{"alg":"RS256","kid":' + b"[" * 1015 + b"]" * 1015 + b"}", b"{}"),
            ["rejected (token-invalid)", "kid", "a list"],
            id="nested",
        ),
        pytest.param(
            "ak_secret", ["token-type-not-supported", "a machine token, OAuth token or API key"], id="machine"
        ),
        pytest.param("", ["token: absent (session-token-missing)"], id="none"),
    ],
)
def test_check_says_which_check_failed_what_was_found_and_what_was_expected(
    check: Check, sent: str, lines: list[str]
) -> None:
    result = check("--token", sent, CLERK_AUTHORIZED_PARTIES=ORIGIN)
    for line in lines:
        assert line in result.output
    assert result.exit_code == 1
    assert not sent or sent not in result.output


def test_check_takes_the_token_from_standard_input(check: Check) -> None:
    assert "token: verified" in check("--token", "-", stdin=f"{token()}\n").output


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER  "])
def test_check_takes_the_whole_header_too(check: Check, scheme: str) -> None:
    assert "token: verified" in check("--token", f"{scheme}{token()}").output


def test_check_does_not_create_the_event_log(check: Check) -> None:
    assert check(EVENT_LOG="new.jsonl").exit_code == 0
    assert not Path("new.jsonl").exists()


@pytest.mark.parametrize("path", ["missing/events.jsonl", "socket", ".", "x" * 256])
def test_check_says_when_the_event_log_cannot_be_written(check: Check, path: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
    result = check(EVENT_LOG=path)
    assert result.stderr.startswith("clerk-logout: EVENT_LOG: cannot be opened for writing: ")
    assert result.stderr.count("\n") == 1
    assert result.exit_code == 2


def test_check_does_not_disturb_who_reads_a_fifo(check: Check) -> None:
    """To open and close it would end its reader."""
    os.mkfifo("fifo")
    reader = os.open("fifo", os.O_RDONLY | os.O_NONBLOCK)
    assert check(EVENT_LOG="fifo").exit_code == 0
    assert not select.select([reader], [], [], 0)[0]
    os.close(reader)


def test_check_does_not_create_the_spool(check: Check) -> None:
    assert check(EVENT_SPOOL_DIR="new/spool").exit_code == 0
    assert not Path("new").exists()


@pytest.mark.parametrize("path", ["file", "file/spool", "x" * 256])
def test_check_says_when_the_spool_cannot_be_used(check: Check, path: str) -> None:
    Path("file").touch()
    result = check(EVENT_SPOOL_DIR=path)
    assert result.stderr.startswith("clerk-logout: EVENT_SPOOL_DIR: cannot be ")
    assert result.stderr.count("\n") == 1
    assert result.exit_code == 2


def test_check_takes_a_spool_that_is_there(check: Check) -> None:
    Path("spool").mkdir()
    assert check().exit_code == 0


def test_what_a_library_says_of_the_env_file_is_json_too(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("this is no assignment: =\n'\n")
    done = subprocess.run(
        [sys.executable, "-m", "service", "check"],
        cwd=tmp_path,
        env=environment(PYTHONPATH=str(Path.cwd())),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )
    assert {json.loads(line)["logger"] for line in done.stderr.splitlines()} == {"dotenv.main"}


def test_check_names_the_setting_that_cannot_be_used(check: Check) -> None:
    result = check(CLERK_JWT_KEY="junk")
    assert result.stderr.startswith("clerk-logout: CLERK_JWT_KEY: is not a PEM public key")
    assert result.exit_code == 2


@respx.mock
def test_check_fetches_the_keys_with_a_secret_key(check: Check) -> None:
    instance = Instance(ISSUER, "sk_test_right")
    respx.route(host="api.clerk.com").mock(
        side_effect=httpx.ASGITransport(create_sandbox(instance)).handle_async_request
    )
    result = check(CLERK_JWT_KEY="", CLERK_SECRET_KEY="sk_test_right")
    assert f"keys: fetched from https://api.clerk.com: {instance.kid}" in result.output
    assert result.exit_code == 0


@respx.mock
def test_check_says_when_clerk_refuses_the_secret_key(check: Check) -> None:
    instance = Instance(ISSUER, "sk_test_right")
    respx.route(host="api.clerk.com").mock(
        side_effect=httpx.ASGITransport(create_sandbox(instance)).handle_async_request
    )
    result = check(CLERK_JWT_KEY="", CLERK_SECRET_KEY="sk_test_wrong")
    assert "none could be fetched" in result.output
    assert "Clerk does not accept CLERK_SECRET_KEY (status 401)" in result.output
    assert "sk_test" not in result.output
    assert result.exit_code == 1


def test_schema_prints_every_schema_by_its_event() -> None:
    printed = json.loads(CliRunner().invoke(main, ["schema"]).output)
    jsonschema_rs.meta.validate(printed["user_logout"])


def test_schema_prints_one() -> None:
    printed = json.loads(CliRunner().invoke(main, ["schema", "user_logout"]).output)
    assert printed["properties"]["event"] == {"const": "user_logout"}


def in_a_shell(redirections: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = f'exec "$0" -m service "$@" {redirections}'
    return subprocess.run(
        ["sh", "-c", command, sys.executable, *arguments],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


@pytest.mark.parametrize("command", ["serve", "check", "schema"])
def test_a_closed_standard_output_is_one_line(command: str) -> None:
    done = in_a_shell(">&-", command)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("clerk-logout: standard output is closed")


def test_a_closed_stderr_changes_nothing() -> None:
    assert in_a_shell("2>&-", "check").returncode == 0


def test_the_module_is_the_command() -> None:
    command = [sys.executable, "-m", "service", "--version"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=TIMEOUT, check=True)
    assert done.stdout == f"clerk-logout, version {__version__}\n"

"""The command line, as a person uses it."""

import json
import os
import re
import select
import socket
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest
import respx
from click.testing import CliRunner, Result

from service.cli import main
from service.revocations.redis_commands import REVOKED
from service.sandbox.app import create_sandbox
from service.sandbox.instance import Instance
from service.settings import Settings
from tests.support.processes import ROOT, TIMEOUT, environment, serve, wait_until
from tests.support.redis_server import redis_server
from tests.support.signing import ISSUER, ORIGIN, claims, pem, private_key, token, token_of
from tests.support.webhooks import SECRET

Check = Callable[..., Result]


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, logging_as_it_was: None) -> Check:  # noqa: ARG001
    """Run ``check`` with the given environment; its input is standard input."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, stdin: str | None = None, **variables: str) -> Result:
        for name, value in (
            {"CLERK_JWT_KEY": pem(), "EVENT_LOG": "events.jsonl", "EVENT_SPOOL_DIR": "spool", "PORT": "0"} | variables
        ).items():
            monkeypatch.setenv(name, value)
        return CliRunner().invoke(main, ["check", *arguments], input=stdin)

    return run


def in_a_shell(command: str, redirection: str, cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    command = f"exec {sys.executable} -m service {command} {redirection}"
    variables = environment(PYTHONPATH=str(ROOT))
    return subprocess.run(
        ["sh", "-c", command], cwd=cwd, env=variables, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )


# --- The settings ----------------------------------------------------------------------------------------------------


def test_check_shows_every_setting(check: Check) -> None:
    """Of a secret only whether it is set. With a PEM alone nothing about proxies matters."""
    parties, proxies = f"{ORIGIN},https://b.example", {"HTTPS_PROXY": "nonsense://[", "NO_PROXY": "[::1"}
    result = check(CLERK_AUTHORIZED_PARTIES=parties, CLERK_WEBHOOK_SIGNING_SECRET=SECRET, **proxies)
    lines = result.output.splitlines()
    assert [line.partition(": ")[0] for line in lines[:-2]] == [name.upper() for name in Settings.model_fields]
    assert set(lines) >= {
        "CLERK_JWT_KEY: set",
        "CLERK_SECRET_KEY: not set (sign out everywhere is off)",
        f"CLERK_AUTHORIZED_PARTIES: {ORIGIN}, https://b.example",
        "CLERK_WEBHOOK_SIGNING_SECRET: set",
        "EVENT_FSYNC: false",
        "REVOCATIONS_URL: memory://",
    }
    assert lines[-2:] == [
        "keys: one RSA key of 2048 bits from CLERK_JWT_KEY; Clerk is not asked",
        "revocation list: memory://; ok",
    ]
    assert SECRET not in result.output
    assert result.exit_code == 0


def test_a_mistyped_variable_is_a_warning_and_exit_code_1(check: Check, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("REVOCATION_URL=redis://:sesame@127.0.0.1\n", "utf-8")
    result = check(CLERK_WEBHOOK_SECRET=SECRET, CLERK_SIGN_IN_URL="/sign-in")
    assert [line for line in result.output.splitlines() if line.startswith("warning: ")] == [
        "warning: CLERK_WEBHOOK_SECRET is not a setting and is ignored; did you mean CLERK_WEBHOOK_SIGNING_SECRET?",
        "warning: REVOCATION_URL is not a setting and is ignored; did you mean REVOCATIONS_URL?",
    ]
    assert "SIGN_IN" not in result.output
    assert "sesame" not in result.output
    assert result.exit_code == 1


def test_check_sees_a_port_that_is_taken(check: Check) -> None:
    """Not with a token: that is asked beside the running service."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        result = check(PORT=port)
        assert f"warning: PORT: cannot listen on port {port} of 127.0.0.1: Address already in use\n" in result.output
        assert result.exit_code == 1
        assert check("--token", token(), PORT=port).exit_code == 0


DOUBLED = pem().replace("\n", "\\\\n")


@pytest.mark.parametrize("written", [f'"{DOUBLED}"', b64encode(pem().encode()).decode()], ids=["doubled", "base64"])
def test_a_pem_is_taken_as_secret_stores_hand_it_over(check: Check, written: str) -> None:
    assert "keys: one RSA key of 2048 bits" in check(CLERK_JWT_KEY=written).output


# --- The revocation list ---------------------------------------------------------------------------------------------


def test_check_says_where_the_list_is_without_password(check: Check) -> None:
    result = check("--token", token(), REVOCATIONS_URL="rediss://user:sesame@127.0.0.1:1/3?ssl_password=sesame")
    assert "revocation list: rediss://127.0.0.1:1/3; Redis: it cannot be reached" in result.output
    assert "token: verified\n" in result.output
    assert "sesame" not in result.output
    assert "signed out" not in result.output
    assert result.exit_code == 1


@pytest.mark.usefixtures("patient_revocations")
def test_check_says_of_a_token_that_it_is_signed_out(check: Check) -> None:
    with redis_server("--maxmemory-policy", "volatile-lru") as redis:
        result = check("--token", token(), REVOCATIONS_URL=redis.url)
        assert f"revocation list: redis://127.0.0.1:{redis.port}/0; ok" in result.output
        assert "\nwarning: Redis: its maxmemory-policy is volatile-lru" in result.output
        assert result.exit_code == 0
        with serve(settings={"REVOCATIONS_URL": redis.url}) as service:
            headers = {"Authorization": f"Bearer {token()}"}
            httpx.delete(f"{service.url}/v1/auth/session", headers=headers, timeout=TIMEOUT)
            wait_until(lambda: redis.left(f"{REVOKED}sess_2abcDEF") > 0, "the sign-out in Redis")
        result = check("--token", token(), REVOCATIONS_URL=redis.url)
    assert re.search(r"^  signed out: \S+Z, so it is refused \(session-revoked\)$", result.output, re.MULTILINE)
    assert result.exit_code == 1


# --- A token ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["", "BEARER  "])
def test_check_shows_who_a_good_token_names(check: Check, scheme: str) -> None:
    """The token alone, or the whole header's value, comes from standard input as well."""
    good = token(claims(o={"id": "org_1"}, act={"sub": "user_admin"}))
    result = check("--token", "-", stdin=f"{scheme}{good}\n")
    assert "token: verified\n" in result.output
    assert "user:     user_2xyzUVW" in result.output
    assert "session:  sess_2abcDEF" in result.output
    assert "organisation: org_1, actor: user_admin" in result.output
    assert result.exit_code == 0


@pytest.mark.parametrize(
    ("sent", "lines"),
    [
        ({"azp": None}, ["token-invalid-authorized-parties", "None", "CLERK_AZP_REQUIRED=false"]),
        (
            {"azp": "https://evil.example"},
            ["check:    azp", "found:    'https://evil.example'", "expected: an origin in CLERK_AUTHORIZED_PARTIES"],
        ),
        ({"now": 1}, ["expired (token-expired)", "exp", "s behind", "at most 5 s behind"]),
        ({"sts": "pending"}, ["token: verified\n", "  status:   'pending', so the guard refuses it"]),
        ({"sub": "\x1b[31mé"}, ["sub", r"'\x1b[31m\xe9'", "1-128 visible ASCII"]),
        ({"sub": "x" * 500}, ["sub", f"'{'x' * 50}", "...", "1-128 visible ASCII"]),
        (
            token(key=private_key("forger")),
            ["token-invalid-signature", "hint:     the token is of another key: look whether one is a test"],
        ),
        (token_of(b'{"alg":"RS256","kid":' + b"[" * 1015 + b"]" * 1015 + b"}", b"{}"), ["kid", "[[[", "expected: a"]),
        ("ak_secret", ["token-type-not-supported", "a machine token, OAuth token or API key"]),
        ("", ["token: absent (session-token-missing)"]),
    ],
    ids=["no azp", "azp", "exp", "pending", "escape", "long", "another key", "nested", "machine", "none"],
)
def test_check_says_which_check_failed_and_why(check: Check, sent: str | dict[str, Any], lines: list[str]) -> None:
    sent = sent if isinstance(sent, str) else token(claims(**sent))
    result = check("--token", sent, CLERK_AUTHORIZED_PARTIES=ORIGIN)
    for line in lines:
        assert line in result.output
    assert result.exit_code == 1
    assert not sent or sent not in result.output


# --- Event log and spool ---------------------------------------------------------------------------------------------


def test_check_creates_nothing(check: Check, tmp_path: Path) -> None:
    assert check(EVENT_LOG="new.jsonl", EVENT_SPOOL_DIR="new/spool").exit_code == 0
    assert list(tmp_path.iterdir()) == []
    Path("spool").mkdir()
    assert check().exit_code == 0


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            {"EVENT_LOG": "no/events.jsonl"},
            "EVENT_LOG: cannot be opened for writing: no/events.jsonl: no such directory",
        ),
        ({"EVENT_LOG": "."}, "EVENT_LOG: cannot be opened for writing: .: Is a directory"),
        ({"EVENT_SPOOL_DIR": "file/spool"}, "EVENT_SPOOL_DIR: cannot be written to: /"),
        ({"REVOCATIONS_URL": "redis://:sesame@h/?db=x"}, "REVOCATIONS_URL: an option after ? cannot be used"),
        (
            {"REVOCATIONS_URL": "rediss://h/?ssl_password=sesame&ssl_ca_certs=/no"},
            "REVOCATIONS_URL: a certificate or key that it names cannot be read: No such file",
        ),
        (
            {"CLERK_SECRET_KEY": "sk_test_x", "HTTPS_PROXY": "foo://proxy"},
            "CLERK_API_URL: no client can be created (ValueError); check HTTPS_PROXY",
        ),
    ],
)
def test_check_names_what_cannot_be_used(check: Check, settings: dict[str, str], line: str) -> None:
    Path("file").touch()
    result = check(**settings)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert result.stderr.startswith(f"clerk-logout: {line}")
    assert "sesame" not in result.stderr


def test_check_does_not_disturb_who_reads_a_fifo(check: Check) -> None:
    """To open and close it would end its reader."""
    os.mkfifo("fifo")
    reader = os.open("fifo", os.O_RDONLY | os.O_NONBLOCK)
    assert check(EVENT_LOG="fifo").exit_code == 0
    assert not select.select([reader], [], [], 0)[0]
    os.close(reader)


def test_what_a_library_says_of_the_env_file_is_json_too(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("this is no assignment: =\n'\n")
    done = in_a_shell("check", "", tmp_path)
    assert {json.loads(line)["logger"] for line in done.stderr.splitlines()} == {"dotenv.main"}


@respx.mock
def test_check_fetches_the_keys_with_a_secret_key(check: Check) -> None:
    instance = Instance(ISSUER, "sk_test_right")
    respx.route(host="api.clerk.com").mock(
        side_effect=httpx.ASGITransport(create_sandbox(instance)).handle_async_request
    )
    right = check(CLERK_JWT_KEY="", CLERK_SECRET_KEY="sk_test_right")
    assert f"keys: fetched from https://api.clerk.com: '{instance.kid}'" in right.output
    assert right.exit_code == 0
    bypassed = "localhost,fd00::/8,[::1],*,[fd00::1]:443"  # IPv6 there, and in a proxy's address, is no mistake
    proxies = {"NO_PROXY": bypassed, "HTTPS_PROXY": "http://[::1]:1"}
    wrong = check(CLERK_JWT_KEY="", CLERK_SECRET_KEY="sk_test_wrong", **proxies)
    assert "none could be fetched" in wrong.output
    assert "Clerk does not accept CLERK_SECRET_KEY (status 401)" in wrong.output
    assert wrong.exit_code == 1
    assert "sk_test" not in right.output + wrong.output


# --- The rest --------------------------------------------------------------------------------------------------------


def test_schema_prints_every_schema_or_one() -> None:
    printed = json.loads(CliRunner().invoke(main, ["schema"]).output)
    jsonschema_rs.meta.validate(printed["user_logout"])
    assert json.loads(CliRunner().invoke(main, ["schema", "user_logout"]).output) == printed["user_logout"]


def test_a_closed_standard_output_is_one_line() -> None:
    done = in_a_shell("serve", ">&-")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("clerk-logout: standard output is closed")


def test_a_closed_stderr_changes_nothing() -> None:
    assert in_a_shell("check", "2>&-").returncode == 0

"""What each variable takes. The environment is read for real: that is what ``load_settings`` does."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from service.settings import ConfigurationError, Settings, load_settings

PEM = "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----"
SECRET = "sk_test_abcdefghijklmnop"
DEFAULTS = Settings(clerk_jwt_key=SecretStr(PEM)).model_dump()


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty working directory and no variable set."""
    monkeypatch.chdir(tmp_path)
    for name in [*Settings.model_fields, "workers"]:
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment with the one setting that is needed."""
    monkeypatch.setenv("CLERK_JWT_KEY", PEM)
    return monkeypatch


def problem() -> str:
    """What is wrong with the settings."""
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert caught.value.variable == str(caught.value).partition(":")[0]
    return str(caught.value)


# --- Each variable ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("CLERK_API_URL", "https://api.clerk.com/", "https://api.clerk.com"),
        ("CLERK_API_URL", "http://127.0.0.1:8001", "http://127.0.0.1:8001"),
        ("CLERK_API_URL", "http://[::1]:8001", "http://[::1]:8001"),
        (
            "CLERK_AUTHORIZED_PARTIES",
            " https://a.example , http://localhost:3000,,",
            ("https://a.example", "http://localhost:3000"),
        ),
        ("CLERK_AUTHORIZED_PARTIES", "chrome-extension://abcdef", ("chrome-extension://abcdef",)),
        ("CLERK_AUTHORIZED_PARTIES", "http://[::1]:3000", ("http://[::1]:3000",)),
        ("CLERK_ISSUER", "https://clerk.example.com/", ("https://clerk.example.com",)),
        (
            "CLERK_ISSUER",
            "https://app.example.com/__clerk/, https://clerk.satellite.example",
            ("https://app.example.com/__clerk", "https://clerk.satellite.example"),
        ),
        ("CLERK_AZP_REQUIRED", "false", False),
        ("CLERK_PUBLISHABLE_KEY", "pk_live_Y2xlcmsuZXhhbXBsZS5jb20k", "pk_live_Y2xlcmsuZXhhbXBsZS5jb20k"),
        ("CLERK_CLOCK_SKEW_SECONDS", "0", 0),
        ("CLERK_AUDIENCE", " convex, https://api.example.com,", ("convex", "https://api.example.com")),
        ("EVENT_USER_AGENT", "yes", True),
        ("FORWARDED_ALLOW_IPS", "10.0.0.0/8, 192.168.1.1", ("10.0.0.0/8", "192.168.1.1/32")),
        ("FORWARDED_ALLOW_IPS", "10.1.2.3/8", ("10.0.0.0/8",)),
        ("FORWARDED_ALLOW_IPS", ",", ()),
        ("PORT", "0", 0),
        ("LOG_LEVEL", "WARNING", "warning"),
        ("LOG_LEVEL", "Warn", "warning"),
        ("LOG_LEVEL", "30", "warning"),
        ("LOG_LEVEL", "fatal", "critical"),
        ("LOG_LEVEL", "TRACE", "debug"),
        ("CLERK_SECRET_KEY", f" {SECRET}\r\n", SecretStr(SECRET)),
        ("REVOCATIONS_URL", "redis://localhost/0\n", SecretStr("redis://localhost/0")),
    ],
)
def test_a_good_value_is_taken(env: pytest.MonkeyPatch, variable: str, value: str, expected: object) -> None:
    env.setenv(variable, value)
    assert getattr(load_settings(), variable.lower()) == expected


REFUSED = {
    ("CLERK_SECRET_KEY", "is not a Clerk secret key"): ["pk_test_abc", "sk_test_ab c", "sk_test_äbc", "sk_"],
    ("CLERK_API_URL", "must be https://host"): [
        "api.clerk.com",
        "ftp://api.clerk.com",
        "https://api.clerk.com/v1",
        "https://api.clerk.com?v=1",
        "https://[::1",
        "https://api.clerk.com:65536",
    ],
    ("CLERK_API_URL", "must not contain a user name"): ["https://u:p@api.clerk.com"],
    ("CLERK_API_URL", "must be https, because"): ["http://api.clerk.com", "http://10.0.0.1"],
    ("CLERK_AUTHORIZED_PARTIES", "cannot be '*'"): ["*"],
    ("CLERK_AUTHORIZED_PARTIES", "is not an origin"): [
        "https://a.example/",
        "a.example",
        "https://A.example",
        "https://a b",
        "https://a.b:65536",
        "null",
        "https://*.a.example",
        f"https://{'a' * 250}",
    ],
    ("CLERK_AUTHORIZED_PARTIES", "as browsers do"): ["https://a.example:443", "http://a.example:80"],
    ("CLERK_AUTHORIZED_PARTIES", "entry 2 is not an origin"): ["https://ok.example,x"],
    ("CLERK_AUTHORIZED_PARTIES", "at most 64"): [",".join(f"https://{number}.example" for number in range(65))],
    ("CLERK_ISSUER", "is not an issuer"): [
        "clerk.example.com",
        "https://",
        "https://clerk.example.com/.well-known/jwks.json",
        "https://clerk.example.com?x=1",
        "https://Clerk.example.com",
        "https://clerk.example.com:443",
        "https://user@clerk.example.com",
        "https://clerk.example.com,clerk.example.com",
        "ftp://clerk.example.com",
    ],
    ("CLERK_PUBLISHABLE_KEY", "is not a publishable key"): [
        "pk_test_",
        "pk_test_x",
        "sk_test_Y2xlcmsuZXhhbXBsZS5jb20k",
        "pk_test_Y2xlcmsuZXhhbXBsZS5jb20",
    ],
    ("CLERK_WEBHOOK_SIGNING_SECRET", "is not a signing secret"): [
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_not base64!",
        "whsec_MfKQ9r8G",
    ],
    ("CLERK_CLOCK_SKEW_SECONDS", "must be at most 60"): ["61"],
    ("CLERK_CLOCK_SKEW_SECONDS", "must be at least 0"): ["-1"],
    ("REVERIFICATION_MAX_AGE_MINUTES", "must be a whole number"): ["soon"],
    ("REVOCATIONS_FAIL", "'closed' or 'open'"): ["ajar"],
    ("EVENT_LOG", "must not contain control characters"): ["a\tb"],
    ("EVENT_SPOOL_DIR", "must not contain control characters"): ["a\x1b[31mb"],
    ("EVENT_CLIENT_IP", "must be true or false"): ["perhaps"],
    ("FORWARDED_ALLOW_IPS", "every caller could then choose"): ["*"],
    ("FORWARDED_ALLOW_IPS", "is not an IP address or a network"): ["10.0.0.0/33", "proxy"],
    ("PORT", "must be at most 65535"): ["65536"],
    ("LOG_LEVEL", "must be 'debug', 'info'"): ["verbose"],
    ("WORKERS", "run replicas that share one Redis"): ["2", "auto"],
    ("CLERK_SECRET_KEY", "is in quotes"): [f'"{SECRET}"'],
    ("CLERK_AUTHORIZED_PARTIES", "is in quotes"): ['"https://a.example","https://b.example"'],
    ("CLERK_ISSUER", "is in quotes"): ["'https://clerk.example.com'"],
    ("EVENT_LOG", "is in quotes"): ['"/var/log/events.jsonl"'],
    ("PORT", "is in quotes"): [" '8000' "],
    ("WORKERS", "is in quotes"): ['"1"'],
}


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [(variable, value, says) for (variable, says), values in REFUSED.items() for value in values],
)
def test_a_bad_value_is_refused_in_one_line(env: pytest.MonkeyPatch, variable: str, value: str, says: str) -> None:
    env.setenv(variable, value)
    text = problem()
    assert text.startswith(f"{variable}: ")
    assert says in text
    assert text.isprintable()


@pytest.mark.parametrize("value", ["", "1"])
def test_one_worker_is_what_there_is(env: pytest.MonkeyPatch, value: str) -> None:
    """``WORKERS`` was a setting once; a guard ignores it, being served by somebody else."""
    env.setenv("WORKERS", value)
    assert load_settings().model_dump() == DEFAULTS
    env.setenv("WORKERS", "8")
    assert load_settings(for_guard=True).port == DEFAULTS["port"]


# --- Keys and secrets ------------------------------------------------------------------------------------------------


def test_without_any_key_the_text_names_both_and_the_sandbox() -> None:
    text = problem()
    assert text.startswith("CLERK_JWT_KEY: set this or CLERK_SECRET_KEY")
    assert "python -m service sandbox" in text


@pytest.mark.parametrize(("variable", "value"), [("CLERK_JWT_KEY", PEM), ("CLERK_SECRET_KEY", SECRET)])
def test_one_key_is_enough(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    assert getattr(load_settings(), variable.lower()) == SecretStr(value)


@pytest.mark.parametrize(
    "variable", ["CLERK_API_URL", "CLERK_AUTHORIZED_PARTIES", "FORWARDED_ALLOW_IPS", "PORT", "LOG_LEVEL", "WORKERS"]
)
def test_a_secret_in_the_wrong_variable_is_not_shown_either(env: pytest.MonkeyPatch, variable: str) -> None:
    env.setenv(variable, SECRET)
    assert SECRET not in problem()


def test_a_refused_secret_is_not_in_the_errors_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """A traceback would print it."""
    monkeypatch.setenv("CLERK_SECRET_KEY", "live_abcdefghijklmnop")
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert "abcdef" not in str(caught.value)
    assert caught.value.__suppress_context__
    assert "abcdef" not in str(caught.value.__context__)


def test_secrets_are_not_shown(env: pytest.MonkeyPatch) -> None:
    env.setenv("CLERK_SECRET_KEY", SECRET)
    shown = f"{load_settings()!r} {load_settings()}"
    assert SECRET not in shown
    assert "MIIB" not in shown


# --- Where they come from --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f"CLERK_SECRET_KEY={SECRET}\n", id="plain"),
        pytest.param(f'# a comment\n\nexport CLERK_SECRET_KEY="{SECRET}" # another\n', id="decorated"),
        pytest.param(f"clerk_secret_key={SECRET}\n", id="lower case"),
        pytest.param(f"CLERK_SECRET_KEY={SECRET}\r\nPORT=\r\n", id="Windows line ends"),
        pytest.param(f"\ufeffCLERK_SECRET_KEY={SECRET}\n", id="a byte order mark"),
    ],
)
def test_a_dotenv_file_in_the_working_directory_is_read(tmp_path: Path, text: str) -> None:
    (tmp_path / ".env").write_text(text, encoding="utf-8", newline="")
    assert load_settings().clerk_secret_key == SecretStr(SECRET)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        pytest.param(f'"{PEM}"', PEM, id="over several lines"),
        pytest.param('"{}"'.format(PEM.replace("\n", "\\n")), PEM, id="quoted with backslash n"),
        pytest.param(PEM.replace("\n", "\\n"), PEM.replace("\n", "\\n"), id="bare with backslash n"),
    ],
)
def test_a_dotenv_file_holds_a_pem(tmp_path: Path, written: str, expected: str) -> None:
    (tmp_path / ".env").write_text(f"CLERK_JWT_KEY={written}\n", encoding="utf-8")
    assert load_settings().clerk_jwt_key == SecretStr(expected)


def test_the_environment_goes_before_the_dotenv_file(env: pytest.MonkeyPatch, tmp_path: Path) -> None:
    env.setenv("PORT", "1")
    (tmp_path / ".env").write_text("PORT=2\nHOST=::\n", encoding="utf-8")
    settings = load_settings()
    assert (settings.port, settings.host) == (1, "::")


def test_an_empty_variable_is_not_set(env: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        if name != "clerk_jwt_key":
            env.setenv(name.upper(), "")
    (tmp_path / ".env").write_text("PORT=2\nCLERK_ISSUER=\n", encoding="utf-8")
    assert load_settings().model_dump() == DEFAULTS | {"port": 2}


def test_unknown_variables_are_ignored(env: pytest.MonkeyPatch, tmp_path: Path) -> None:
    env.setenv("CLERK_SOMETHING_NEW", "1")
    (tmp_path / ".env").write_text("NEXT_PUBLIC_CLERK_PUBLISHABLE_KEY=pk_test_abc\n", encoding="utf-8")
    assert load_settings().model_dump() == DEFAULTS


def test_a_dotenv_file_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"CLERK_ISSUER=\xff\xfe\n")
    assert problem() == ".env: is not UTF-8 text; save it as UTF-8"


def test_a_dotenv_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """``/proc/self/mem`` is one that also root cannot read, at its beginning."""
    (tmp_path / ".env").symlink_to("/proc/self/mem")
    assert problem() == ".env: cannot be read: Input/output error"


def test_settings_themselves_ignore_environment_and_dotenv_file(env: pytest.MonkeyPatch, tmp_path: Path) -> None:
    env.setenv("PORT", "1")
    (tmp_path / ".env").write_text("HOST=::\n", encoding="utf-8")
    settings = Settings(clerk_secret_key=SecretStr(SECRET))
    assert (settings.clerk_jwt_key, settings.port, settings.host) == (None, 8000, "127.0.0.1")


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A directory as Docker and Kubernetes make it, with a file that is no setting."""
    directory = tmp_path / "secrets"
    directory.mkdir()
    (directory / "tls.key").write_bytes(b"\xff")
    monkeypatch.setenv("SECRETS_DIR", str(directory))
    return directory


@pytest.mark.parametrize("name", ["clerk_secret_key", "CLERK_SECRET_KEY"])
def test_a_secret_is_read_from_a_file_of_its_name(secrets: Path, name: str) -> None:
    (secrets / name).write_text(f"{SECRET}\n", "utf-8")
    (secrets / "clerk_jwt_key").write_text(f"{PEM}\r\n", "utf-8")
    settings = load_settings()
    assert (settings.clerk_secret_key, settings.clerk_jwt_key) == (SecretStr(SECRET), SecretStr(PEM))


def test_the_environment_goes_before_a_secret_file_and_that_before_dotenv(
    env: pytest.MonkeyPatch, secrets: Path, tmp_path: Path
) -> None:
    for name, content in {"port": "2", "host": "::", "event_log": ""}.items():
        (secrets / name).write_text(content, "utf-8")
    (tmp_path / ".env").write_text("PORT=3\nHOST=localhost\nEVENT_LOG=dotenv\n", "utf-8")
    env.setenv("PORT", "1")
    settings = load_settings()
    assert (settings.port, settings.host, settings.event_log) == (1, "::", "dotenv")


def test_dotenv_may_name_the_secrets_directory(monkeypatch: pytest.MonkeyPatch, secrets: Path, tmp_path: Path) -> None:
    monkeypatch.delenv("SECRETS_DIR")
    (tmp_path / ".env").write_text("SECRETS_DIR=secrets\n", "utf-8")
    (secrets / "clerk_secret_key").write_text(SECRET, "utf-8")
    assert load_settings().clerk_secret_key == SecretStr(SECRET)


def test_a_secrets_directory_that_cannot_be_read_is_refused(env: pytest.MonkeyPatch, secrets: Path) -> None:
    (secrets / "clerk_secret_key").write_bytes(b"sk_test_\xff")
    assert problem() == f"SECRETS_DIR: {secrets}/clerk_secret_key is not UTF-8 text"
    (secrets / "clerk_secret_key").unlink()
    (secrets / "clerk_secret_key").mkdir()  # what Docker makes where the file to mount is missing
    assert problem() == f"SECRETS_DIR: {secrets}/clerk_secret_key cannot be read: Is a directory"
    env.setenv("SECRETS_DIR", "nowhere")
    assert problem() == "SECRETS_DIR: nowhere cannot be read: No such file or directory"


# --- The revocation list's URL ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "memory://",
        "redis://localhost",
        "redis://localhost:6379/15",
        "redis://[::1]:6379/0",
        "redis://:p%40ss@redis.internal:6379/0",
        "rediss://user:password@redis.internal",
        "rediss://redis.internal/1?ssl_ca_certs=/etc/ssl/redis.pem&ssl_certfile=c.pem&ssl_keyfile=k.pem",
        "unix:///run/redis.sock?db=3&password=p%40ss",
    ],
)
def test_a_revocations_url_is_taken(env: pytest.MonkeyPatch, url: str) -> None:
    env.setenv("REVOCATIONS_URL", url)
    assert load_settings().revocations_url.get_secret_value() == url


@pytest.mark.parametrize(
    "url",
    [
        "memory://x",
        "localhost:6379",
        "unix://",
        "unix://run/redis.sock?db=0#1",
        "redis://",
        "redis://:6379",
        "redis://localhost:port",
        "redis://localhost:0",
        "redis://localhost/zero",
        "redis://localhost/0/1",
        "redis://localhost/0?socket_timeout=10",
        "redis://localhost/0#1",
        "redis://:pa/ss@localhost",
        "redis://[::1",
        "redis://local host",
        "redis://host..name",
    ],
)
def test_another_revocations_url_is_refused_and_not_shown(env: pytest.MonkeyPatch, url: str) -> None:
    env.setenv("REVOCATIONS_URL", url)
    assert problem().startswith("REVOCATIONS_URL: ")
    hint = "must be memory://, redis://user:password@host:6379/0 (rediss:// for TLS) or unix:///path?db=0"
    assert url not in problem().replace(hint, "")

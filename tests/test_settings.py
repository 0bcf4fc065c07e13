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


GOOD: dict[str, dict[str, object]] = {
    "CLERK_API_URL": {"https://api.clerk.com/": "https://api.clerk.com", "http://[::1]:8001": "http://[::1]:8001"},
    "CLERK_AUTHORIZED_PARTIES": {
        " https://a.b , chrome-extension://c,,http://[::1]:3": ("https://a.b", "chrome-extension://c", "http://[::1]:3")
    },
    "CLERK_ISSUER": {"https://a.example/__clerk/, https://b.c": ("https://a.example/__clerk", "https://b.c")},
    "CLERK_AZP_REQUIRED": {"false": False},
    "CLERK_PUBLISHABLE_KEY": {"pk_live_Y2xlcmsuZXhhbXBsZS5jb20k": "pk_live_Y2xlcmsuZXhhbXBsZS5jb20k"},
    "CLERK_AUDIENCE": {" convex, https://api.example.com,": ("convex", "https://api.example.com")},
    "FORWARDED_ALLOW_IPS": {"10.1.2.3/8, 192.168.1.1": ("10.0.0.0/8", "192.168.1.1/32"), ",": ()},
    "LOG_LEVEL": {"WARNING": "warning", "Warn": "warning", "30": "warning", "fatal": "critical", "TRACE": "debug"},
    "CLERK_SECRET_KEY": {f" {SECRET}\r\n": SecretStr(SECRET)},
    "REVOCATIONS_URL": {
        url: SecretStr(url.strip())
        for url in (
            "memory://",
            "redis://localhost\n",
            "redis://[::1]:6379/15",
            "rediss://user:p%40ss@redis.internal/1?ssl_ca_certs=/etc/ssl/redis.pem&ssl_certfile=c.pem",
            "unix:///run/redis.sock?db=3&password=p%40ss",
            "unix://user:p@ss@/run/redis.sock",
            "redis://user:p@ss@localhost",
        )
    },
}


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [(variable, value, expected) for variable, values in GOOD.items() for value, expected in values.items()],
)
def test_a_good_value_is_taken(env: pytest.MonkeyPatch, variable: str, value: str, expected: object) -> None:
    env.setenv(variable, value)
    assert getattr(load_settings(), variable.lower()) == expected


REFUSED = {
    ("CLERK_SECRET_KEY", "is not a secret key"): ["pk_test_abc", "sk_test_ab c", "sk_"],
    ("CLERK_API_URL", "must be https://host"): ["ftp://a.b", "https://a.b/v1", "https://a.b:65536", "https://u:p@a.b"],
    ("CLERK_API_URL", "must be https, because"): ["http://api.clerk.com", "http://10.0.0.1"],
    ("CLERK_AUTHORIZED_PARTIES", "cannot be '*'"): ["*"],
    ("CLERK_AUTHORIZED_PARTIES", "is not an origin"): ["x://a/", "x://A", "x://a:65536", "x://*.a", f"x://{'a' * 260}"],
    ("CLERK_AUTHORIZED_PARTIES", "as browsers do"): ["https://a.example:443", "http://a.example:80"],
    ("CLERK_AUTHORIZED_PARTIES", "entry 2 is not an origin"): ["https://ok.example,x"],
    ("CLERK_AUTHORIZED_PARTIES", "have at most 64 items"): [",".join(f"https://{number}.b" for number in range(65))],
    ("CLERK_ISSUER", "is not an issuer"): ["clerk.example", "https://a.b/.well-known/jwks.json", "https://a.b,a.b"],
    ("CLERK_PUBLISHABLE_KEY", "is not a publishable key"): ["sk_test_YS5iJA", "pk_test_YS5i"],
    ("CLERK_WEBHOOK_SIGNING_SECRET", "is not a signing secret"): ["a" * 32, "whsec_not base64!", "whsec_MfKQ9r8G"],
    ("CLERK_CLOCK_SKEW_SECONDS", "must be less than or equal to 60"): ["61"],
    ("CLERK_CLOCK_SKEW_SECONDS", "must be greater than or equal to 0"): ["-1"],
    ("REVERIFICATION_MAX_AGE_MINUTES", "must be a valid integer"): ["soon"],
    ("REVOCATIONS_FAIL", "'closed' or 'open'"): ["ajar"],
    ("EVENT_LOG", "must not contain control characters"): ["a\tb"],
    ("EVENT_CLIENT_IP", "must be true or false"): ["perhaps"],
    ("FORWARDED_ALLOW_IPS", "every caller could then choose"): ["*"],
    ("FORWARDED_ALLOW_IPS", "is not an IP address or a network"): ["10.0.0.0/33", "proxy"],
    ("REVOCATIONS_URL", "must be memory://, redis://user:password@host:6379/0"): [
        "memory://x",
        "unix://run/redis.sock",
        "redis://:6379",
        "redis://localhost:0",
        "redis://user:pa[ss@localhost",
        "redis://localhost/zero",
        "redis://localhost/0#1",
        "redis://:pa/ss@localhost",
    ],
    ("REVOCATIONS_URL", "the options after ? can be db"): ["redis://localhost/0?socket_timeout=10"],
    ("WORKERS", "run replicas that share one Redis"): ["2", "auto"],
    ("CLERK_AUTHORIZED_PARTIES", "is in quotes"): ['"https://a.example","https://b.example"'],
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
    assert variable != "REVOCATIONS_URL" or value not in text.replace("redis://user:password@host:6379/0", "")


def test_one_worker_is_what_there_is(env: pytest.MonkeyPatch) -> None:
    """``WORKERS`` was a setting once; a guard ignores it, being served by somebody else."""
    env.setenv("WORKERS", "1")
    assert load_settings().model_dump() == DEFAULTS
    env.setenv("WORKERS", "8")
    assert load_settings(for_guard=True).port == DEFAULTS["port"]


# --- Keys and secrets ------------------------------------------------------------------------------------------------


def test_without_any_key_the_text_names_both_and_the_sandbox() -> None:
    text = problem()
    assert text.startswith("CLERK_JWT_KEY: set this or CLERK_SECRET_KEY")
    assert "python -m service sandbox" in text


@pytest.mark.parametrize("variable", ["CLERK_API_URL", "PORT", "LOG_LEVEL", "WORKERS", "CLERK_PUBLISHABLE_KEY"])
def test_a_secret_in_the_wrong_variable_is_not_shown(env: pytest.MonkeyPatch, variable: str) -> None:
    """Nor in the error's context, which a traceback would print."""
    env.setenv(variable, SECRET)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert SECRET not in f"{caught.value} {caught.value.__context__}"


def test_secrets_are_not_shown(env: pytest.MonkeyPatch) -> None:
    env.setenv("CLERK_SECRET_KEY", SECRET)
    shown = f"{load_settings()!r} {load_settings()}"
    assert SECRET not in shown
    assert "MIIB" not in shown


# --- Where they come from --------------------------------------------------------------------------------------------


def test_a_dotenv_file_in_the_working_directory_is_read(tmp_path: Path) -> None:
    """Also one from Windows, with a value of several lines."""
    text = f'\ufeffclerk_secret_key={SECRET}\r\nPORT=\r\nCLERK_JWT_KEY="{PEM}"\r\n'
    (tmp_path / ".env").write_text(text, encoding="utf-8", newline="")
    settings = load_settings()
    assert (settings.clerk_secret_key, settings.clerk_jwt_key) == (SecretStr(SECRET), SecretStr(PEM))


def test_an_empty_variable_is_not_set(env: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        if name != "clerk_jwt_key":
            env.setenv(name.upper(), "")
    (tmp_path / ".env").write_text("PORT=2\nCLERK_ISSUER=\n", encoding="utf-8")
    assert load_settings().model_dump() == DEFAULTS | {"port": 2}


def test_a_dotenv_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """``/proc/self/mem`` is one that also root cannot read, at its beginning."""
    file = tmp_path / ".env"
    file.write_bytes(b"CLERK_ISSUER=\xff\xfe\n")
    assert problem() == ".env: is not UTF-8 text; save it as UTF-8"
    file.unlink()
    file.symlink_to("/proc/self/mem")
    assert problem() == ".env: cannot be read: Input/output error"


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
    (secrets / name).write_text(f"{SECRET}\r\n", "utf-8")
    assert load_settings().clerk_secret_key == SecretStr(SECRET)


def test_the_environment_wins_over_a_file_and_that_over_env(
    env: pytest.MonkeyPatch, secrets: Path, tmp_path: Path
) -> None:
    for name, content in {"port": "2", "host": "::", "event_log": ""}.items():
        (secrets / name).write_text(content, "utf-8")
    (tmp_path / ".env").write_text("PORT=3\nHOST=localhost\nEVENT_LOG=dotenv\n", "utf-8")
    env.setenv("PORT", "1")
    env.setenv("CLERK_SOMETHING_NEW", "ignored")
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

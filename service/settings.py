"""The settings: one frozen value, validated before anything starts. ``load_settings`` reads the environment for it."""

import ipaddress
import os
import re
from base64 import b64decode
from collections.abc import Mapping
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import parse_qs, urlsplit

from dotenv import dotenv_values
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

MAX_PORT = 65535
MIN_SIGNING_KEY_BYTES = 16
"""Standard Webhooks asks for 24 to 64; what is shorter than this was cut."""
SIMILARITY = 0.82
"""From 0 to 1: how similar an unknown name must be to a setting's to be taken for a typing error."""
ORIGIN_MAX_LENGTH = 256
"""Characters. Keeps the event line within its 4,096 bytes."""
REDIS_OPTIONS = {"db", "password"} | {
    f"ssl_{name}" for name in ("ca_certs", "ca_path", "certfile", "check_hostname", "keyfile", "password")
}
"""Those of redis-py's options in REVOCATIONS_URL that say which server it is, and how it proves that."""

_LOG_LEVELS = {"trace": "debug", "warn": "warning", "err": "error", "fatal": "critical"}
_LOG_LEVELS |= {"10": "debug", "20": "info", "30": "warning", "40": "error", "50": "critical"}
_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>[a-z0-9._-]+|\[[0-9a-f:.]+\])(:(?P<port>[1-9][0-9]{0,4}))?"
)
_LOOPBACK = re.compile(r"localhost|127\.[0-9]+\.[0-9]+\.[0-9]+|\[::1\]")
_ISSUER = re.compile(r"(?P<origin>https?://[^/]+)(/[A-Za-z0-9._~/-]+)?")


class ConfigurationError(Exception):
    """A setting that cannot be used: one line that names the variable and holds no secret."""

    def __init__(self, variable: str, problem: str) -> None:
        super().__init__(f"{variable}: {problem}")
        self.variable = variable


def _split(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _origin(value: str) -> str:
    """An origin as browsers send it (RFC 6454, section 6.2)."""
    if value == "*":
        raise ValueError("cannot be '*'; list each origin that may log out, such as https://app.example.com")
    match = _ORIGIN.fullmatch(value)
    if match is None or len(value) > ORIGIN_MAX_LENGTH or int(match["port"] or 0) > MAX_PORT:
        raise ValueError(
            "is not an origin; write scheme://host or scheme://host:port, "
            "in lower case and without a path or a trailing slash"
        )
    if (match["scheme"], match["port"]) in {("https", "443"), ("http", "80")}:
        raise ValueError("has the default port of its scheme; leave it out, as browsers do")
    return value


def _network(value: str) -> str:
    if value == "*":
        raise ValueError(
            "cannot be '*': every caller could then choose the address that is recorded; list your proxies"
        )
    try:
        # Cut to the network, because uvicorn would not match one whose host bits are set.
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        raise ValueError("is not an IP address or a network such as 10.0.0.0/8") from None


def _api_url(value: str) -> str:
    value = value.rstrip("/")
    match = _ORIGIN.fullmatch(value)
    if match is None or match["scheme"] not in {"http", "https"} or int(match["port"] or 0) > MAX_PORT:
        raise ValueError(
            "must be https://host in lower case, without a path (the service adds /v1), a user name or a password"
        )
    if match["scheme"] == "http" and not _LOOPBACK.fullmatch(match["host"]):
        raise ValueError("must be https, because the secret key is sent there (http for loopback addresses only)")
    return value


def _publishable_key(value: str) -> str:
    with suppress(ValueError):
        if value.startswith(("pk_test_", "pk_live_")) and b64decode(value[8:] + "==").endswith(b"$"):
            return value
    raise ValueError("is not a publishable key; copy the one of the Clerk dashboard (API keys), pk_test_… or pk_live_…")


def _secret_key(value: SecretStr) -> SecretStr:
    if not re.fullmatch(r"sk_[!-~]+", value.get_secret_value()):
        raise ValueError("is not a secret key; copy that of the Clerk dashboard (API keys), sk_test_… or sk_live_…")
    return value


def _signing_secret(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    with suppress(ValueError):
        if text.startswith("whsec_") and len(b64decode(text[6:], validate=True)) >= MIN_SIGNING_KEY_BYTES:
            return value
    raise ValueError("is not a signing secret; copy that of the Clerk dashboard (Webhooks, your endpoint), whsec_…")


def _revocations_url(value: SecretStr) -> SecretStr:
    """Refuse what redis-py would pass over in silence; the rest ``RedisCommands`` refuses."""
    text = value.get_secret_value()
    try:
        url = urlsplit(text)
        if url.scheme == "unix":
            is_known = bool(url.path) and not url.hostname
        else:
            is_known = url.scheme in {"redis", "rediss"} and bool(url.hostname) and url.port != 0
            is_known = is_known and (url.path[1:] or "0").isdecimal()
    except ValueError:  # no such port, or brackets that hold no address
        is_known = False
    if text != "memory://" and (not is_known or url.fragment):
        raise ValueError(
            "must be memory://, redis://user:password@host:6379/0 (rediss:// for TLS) or unix:///path?db=0; "
            "percent-encode special characters in the user name and password"
        )
    if parse_qs(url.query, keep_blank_values=True).keys() - REDIS_OPTIONS:
        raise ValueError(f"the options after ? can be {', '.join(sorted(REDIS_OPTIONS))}")
    return value


def _issuer(value: str) -> str:
    value = value.rstrip("/")
    match = _ISSUER.fullmatch(value)
    with suppress(ValueError):
        if match is not None and "/.well-known/" not in value and _origin(match["origin"]):
            return value
    raise ValueError("is not an issuer; write the iss of your tokens, such as https://clerk.example.com, no more")


def _log_level(value: object) -> str:
    name = str(value).lower()
    return _LOG_LEVELS.get(name, name)


def _path(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must not contain control characters, and must be UTF-8")
    return value


def _event_log(value: str) -> str:
    name = os.path.normpath(value)
    if name in {"/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"}:
        return "-"
    if name == "/dev/stderr" or name.startswith(("/dev/fd/", "/proc/self/fd/")):
        raise ValueError("must be - for standard output, or the path of a file; standard error is for diagnostics")
    return _path(value)


Origins = Annotated[tuple[Annotated[str, AfterValidator(_origin)], ...], BeforeValidator(_split), Field(max_length=64)]
SigningSecrets = Annotated[tuple[Annotated[SecretStr, AfterValidator(_signing_secret)], ...], BeforeValidator(_split)]
Networks = Annotated[tuple[Annotated[str, AfterValidator(_network)], ...], BeforeValidator(_split)]


class Settings(BaseModel):
    """What the service is told; ``docs/configuration.md`` explains each.

    Field names are the environment variables' names in lower case.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    clerk_jwt_key: SecretStr | None = None
    """PEM; with it tokens are verified without any network call."""
    clerk_publishable_key: Annotated[str, AfterValidator(_publishable_key)] | None = None
    clerk_secret_key: Annotated[SecretStr, AfterValidator(_secret_key)] | None = None
    clerk_api_url: Annotated[str, AfterValidator(_api_url)] = "https://api.clerk.com"
    clerk_authorized_parties: Origins = ()
    clerk_azp_required: bool = True
    clerk_audience: Annotated[tuple[str, ...], BeforeValidator(_split)] = ()
    clerk_issuer: Annotated[tuple[Annotated[str, AfterValidator(_issuer)], ...], BeforeValidator(_split)] = ()
    clerk_clock_skew_seconds: Annotated[int, Field(ge=0, le=60)] = 5
    clerk_webhook_signing_secret: SigningSecrets = ()
    event_log: Annotated[str, AfterValidator(_event_log)] = "-"
    """``-`` for standard output, else the path of a file that is appended to."""
    event_spool_dir: Annotated[str, Field(min_length=1), AfterValidator(_path)] = "/var/tmp/clerk-logout"  # noqa: S108 - see Spool for what makes a shared directory safe
    event_spool_max_bytes: Annotated[int, Field(ge=1 << 20)] = 1 << 30
    event_fsync: bool = False
    event_client_ip: bool = False
    event_user_agent: bool = False
    flood_per_second: Annotated[int, Field(ge=1, le=1_000_000)] = 50
    flood_per_session: Annotated[int, Field(ge=0, le=1_000_000)] = 20
    """0 for any number."""
    revocations_url: Annotated[SecretStr, AfterValidator(_revocations_url)] = SecretStr("memory://")
    """May hold a password."""
    revocations_fail: Literal["closed", "open"] = "closed"
    reverification_max_age_minutes: Annotated[int, Field(ge=1, le=525_600)] | None = None
    forwarded_allow_ips: Networks = ("127.0.0.1/32", "::1/128")
    host: Annotated[str, Field(min_length=1, max_length=255)] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=MAX_PORT)] = 8000
    """0 lets the system choose one."""
    keep_alive_seconds: Annotated[int, Field(ge=1, le=3600)] = 75
    log_level: Annotated[Literal["debug", "info", "warning", "error", "critical"], BeforeValidator(_log_level)] = "info"
    secrets_dir: Annotated[str, AfterValidator(_path)] | None = None
    """Where ``load_settings`` has looked for files."""

    @model_validator(mode="after")
    def _has_a_key(self) -> Self:
        if self.clerk_jwt_key is None and self.clerk_secret_key is None:
            raise ValueError(
                "set this or CLERK_SECRET_KEY, so that tokens can be verified "
                "(to try the service without a Clerk account: python -m service sandbox)"
            )
        return self


SERVED_BY = frozenset({"host", "port", "keep_alive_seconds", "log_level"})
"""Settings that say how this service is served; in another application these variables are that application's."""
GUARD_SPOOL_DIR = "/var/tmp/clerk-logout-guard"  # noqa: S108 - as above
"""A guard's default: with the service's spool it would deliver the service's lines."""


def load_settings(*, for_guard: bool = False) -> Settings:
    """Read the environment; what is not there, from files in ``SECRETS_DIR``, then from ``.env``.

    Args:
        for_guard: for a guard in another application: HOST, PORT and LOG_LEVEL are that application's, and
            the spool has a default of its own.

    Raises:
        ConfigurationError: a value is missing or unusable; its text names the first such variable.
    """
    values = _read_environment()
    if for_guard:
        values = {name: value for name, value in values.items() if name not in SERVED_BY}
        values = {"event_spool_dir": GUARD_SPOOL_DIR} | values
    elif values.get("workers", "1") != "1":  # a setting once; whoever still sets it must hear that it is none now
        raise ConfigurationError(
            "WORKERS", "must be 1 or not set; for more capacity run replicas that share one Redis (REVOCATIONS_URL)"
        )
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise _first_problem(error) from None


def mistyped_names() -> list[str]:
    """Say which variables are no setting but nearly named as one, a sentence each."""
    return [
        f"{name.upper()} is not a setting and is ignored; did you mean {similar[0].upper()}?"
        for name in sorted(_read_environment().keys() - Settings.model_fields.keys())
        if (similar := get_close_matches(name, Settings.model_fields, n=1, cutoff=SIMILARITY))
    ]


def _read_environment() -> dict[str, str]:
    """Give all variables by their names in lower case. ``NAME=`` means "not set", as in .env.example."""
    try:
        values = _by_name(dotenv_values(".env", encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise ConfigurationError(".env", "is not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise ConfigurationError(".env", f"cannot be read: {error.strerror}") from None
    environment = _by_name(os.environ)
    if directory := environment.get("secrets_dir", values.get("secrets_dir")):
        values |= _by_name(_read_secrets(Path(directory)))
    values |= environment
    for name in sorted(values.keys() & {*Settings.model_fields, "workers"}):
        if values[name][0] in "\"'" and name != "clerk_jwt_key":  # a PEM says itself where it begins
            raise ConfigurationError(name.upper(), "is in quotes, which docker's --env-file keeps; leave them out")
    return values


def _by_name(source: Mapping[str, str | None]) -> dict[str, str]:
    return {name.lower(): text for name, value in source.items() if (text := (value or "").strip())}


def _read_secrets(directory: Path) -> dict[str, str]:
    """Give the content of each file that is named as a setting; whose the others are, nobody knows."""
    path, contents = directory, {}
    try:
        for path in directory.iterdir():
            if path.name.lower() in Settings.model_fields:
                contents[path.name] = path.read_text("utf-8")
    except UnicodeDecodeError:
        raise ConfigurationError("SECRETS_DIR", f"{path} is not UTF-8 text") from None
    except OSError as error:
        raise ConfigurationError("SECRETS_DIR", f"{path} cannot be read: {error.strerror}") from None
    return contents


def _first_problem(error: ValidationError) -> ConfigurationError:
    problem = error.errors(include_url=False, include_input=False)[0]
    variable, *place = problem["loc"] or ("clerk_jwt_key",)  # without a place: the one rule over several fields
    # The value itself is never shown: it may be a secret that went into the wrong variable.
    entry = f"entry {int(place[0]) + 1} " if place else ""
    message = problem["msg"].removeprefix("Value error, ").partition(", unable")[0].replace("Input should", "must")
    return ConfigurationError(str(variable).upper(), entry + message.replace("a valid boolean", "true or false"))

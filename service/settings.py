"""The settings: one frozen value, validated before anything starts.

``Settings`` holds what it is given; ``load_settings`` reads the environment and ``.env`` for the command line.
"""

import ipaddress
import os
import re
from base64 import b64decode
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qsl, urlsplit

from dotenv import dotenv_values
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    HttpUrl,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

MAX_PORT = 65535
MIN_SIGNING_KEY_BYTES = 16
"""Standard Webhooks asks for 24 to 64; what is shorter than this was cut."""
ALIKE = 0.82
"""From 0 to 1: how alike two names must be for one to be a mistake for the other."""
ORIGIN_MAX_LENGTH = 256
"""Characters. Keeps the event line within its 4,096 bytes."""
REDIS_OPTIONS = {"db", "password"} | {
    f"ssl_{name}" for name in ("ca_certs", "ca_path", "certfile", "check_hostname", "keyfile", "password")
}
"""Those of redis-py's options in REVOCATIONS_URL that say which server it is, and how it proves that."""


_ORIGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:(?P<port>[1-9][0-9]{0,4}))?")


class ConfigurationError(Exception):
    """A setting that cannot be used. Its text is one line that names the variable and holds no secret."""

    def __init__(self, variable: str, problem: str) -> None:
        super().__init__(f"{variable}: {problem}")
        self.variable = variable


def _split(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(part for part in (part.strip() for part in value.split(",")) if part)


def _origin(value: str) -> str:
    """An origin as browsers send it: scheme, host and perhaps a port, nothing after it (RFC 6454, section 6.2)."""
    if value == "*":
        raise ValueError(
            "is '*', which is no origin; name each origin that may log out, such as https://app.example.com"
        )
    match = _ORIGIN.fullmatch(value)
    if match is None or len(value) > ORIGIN_MAX_LENGTH or int(match["port"] or 0) > MAX_PORT:
        raise ValueError(
            "is not an origin; write scheme://host or scheme://host:port in lower case, "
            "without a path or a slash at the end"
        )
    if (match["scheme"], match["port"]) in {("https", "443"), ("http", "80")}:
        raise ValueError("names the port that its scheme has anyway; browsers leave it out, so must this")
    return value


def _network(value: str) -> str:
    if value == "*":
        raise ValueError(
            "is '*', which would let every caller choose the address that is recorded; name the proxies instead"
        )
    try:
        # Cut to the network, because uvicorn would not match one whose host bits are set.
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        raise ValueError("is neither an IP address nor a network such as 10.0.0.0/8") from None


def _api_url(value: str) -> str:
    try:
        url = HttpUrl(value)
    except ValueError:
        url = None
    if (
        url is None
        or not value.isprintable()
        or url.path not in {None, "/"}
        or url.query is not None
        or url.fragment is not None
    ):
        raise ValueError("write it as https://host, without a path (the service adds /v1)")
    if url.username is not None or url.password is not None:
        raise ValueError("must not hold a user name or password; the secret key goes into CLERK_SECRET_KEY")
    if url.scheme == "http" and not _is_loopback(str(url.host).strip("[]")):
        raise ValueError("must be https: the secret key is sent there (plain http is for loopback addresses only)")
    return str(url).rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _secret_key(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text.startswith("sk_") or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("is not a Clerk secret key; they start with sk_test_ or sk_live_ (Clerk dashboard, API keys)")
    return value


def _signing_secret(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    try:
        key = b64decode(text.removeprefix("whsec_"), validate=True)
    except ValueError:
        key = b""
    if not text.startswith("whsec_") or len(key) < MIN_SIGNING_KEY_BYTES:
        raise ValueError(
            "is not a signing secret; they start with whsec_ (Clerk dashboard, Webhooks, the endpoint's page)"
        )
    return value


def _revocations_url(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if text == "memory://":
        return value
    try:
        url, port = urlsplit(text), urlsplit(text).port
        options = {name for name, _ in parse_qsl(url.query, keep_blank_values=True)}
    except ValueError:
        url, port, options = urlsplit(""), None, set()
    is_socket = url.scheme == "unix" and url.path.startswith("/")
    is_server = url.scheme in {"redis", "rediss"} and url.hostname and port != 0
    if not (is_socket or is_server) or not text.isprintable() or " " in text:
        raise ValueError(
            "write memory://, redis://user:password@host:6379/0 (rediss:// with TLS) or unix:///path?db=0; "
            "write characters other than letters and digits in the user name or password as %XX"
        )
    try:
        (url.hostname or "").encode("idna")
    except UnicodeError:
        raise ValueError("names a host that cannot exist: a part of its name is empty or too long") from None
    if options - REDIS_OPTIONS or url.fragment:
        raise ValueError(f"the options after ? can be {', '.join(sorted(REDIS_OPTIONS))}; # must be written as %23")
    if is_server and not re.fullmatch(r"/?[0-9]{0,9}", url.path):
        raise ValueError("must end with the host and port, or with the number of a database, such as /0")
    return value


def _issuer(value: str) -> str:
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("must be visible ASCII, exactly as in the token's iss, such as https://clerk.example.com")
    return value


def _path(value: str) -> str:
    if not value.isprintable():
        raise ValueError("holds a control character, or is not UTF-8")
    return value


Origins = Annotated[
    tuple[Annotated[str, AfterValidator(_origin)], ...], NoDecode, BeforeValidator(_split), Field(max_length=64)
]
Networks = Annotated[tuple[Annotated[str, AfterValidator(_network)], ...], NoDecode, BeforeValidator(_split)]


class Settings(BaseSettings):
    """What the service is told. Field names are the environment variables' names in lower case."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    clerk_jwt_key: SecretStr | None = None
    """Public key of the Clerk instance, PEM; with it tokens are verified without any network call."""
    clerk_secret_key: Annotated[SecretStr, AfterValidator(_secret_key)] | None = None
    """Backend API key, used to fetch the JWKS when there is no ``clerk_jwt_key``."""
    clerk_api_url: Annotated[str, AfterValidator(_api_url)] = "https://api.clerk.com"
    clerk_authorized_parties: Origins = ()
    """Origins of the frontends: the allowed ``azp`` of a token, and the CORS origins."""
    clerk_issuer: Annotated[str, AfterValidator(_issuer)] | None = None
    clerk_webhook_signing_secret: Annotated[SecretStr, AfterValidator(_signing_secret)] | None = None
    """Signs Clerk's webhooks; without it none is taken."""
    event_log: Annotated[str, AfterValidator(_path)] = "-"
    """``-`` for standard output, else the path of a file that is appended to."""
    event_spool_dir: Annotated[str, Field(min_length=1), AfterValidator(_path)] = "/var/tmp/clerk-logout"  # noqa: S108 - see Spool for what makes a shared directory safe
    """Directory on local disk where lines wait that the event log does not take."""
    event_spool_max_bytes: Annotated[int, Field(ge=1 << 20)] = 1 << 30
    event_fsync: bool = False
    """Acknowledge a line only once ``fdatasync`` has brought it to the disk; for files and for the spool."""
    event_client_ip: bool = False
    event_user_agent: bool = False
    flood_per_second: Annotated[int, Field(ge=1, le=1_000_000)] = 50
    """Calls without a proven identity that one client may have recorded per second; bursts of ten times as many."""
    revocations_url: Annotated[SecretStr, AfterValidator(_revocations_url)] = SecretStr("memory://")
    """Where signed-out sessions are kept: ``memory://``, or ``redis://`` for several processes. May hold a password."""
    revocations_fail: Literal["closed", "open"] = "closed"
    """What the guard does while nobody can say whether a session is signed out: refuse, or let pass."""
    reverification_max_age_minutes: Annotated[int, Field(ge=1, le=525_600)] | None = None
    """How long ago the user may have proven who they are, to sign out everywhere; None asks for nothing."""
    forwarded_allow_ips: Networks = ("127.0.0.1/32", "::1/128")
    """Proxies whose ``X-Forwarded-For`` is believed."""
    host: Annotated[str, Field(min_length=1, max_length=255)] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=MAX_PORT)] = 8000
    """TCP port; 0 lets the system choose one."""
    log_level: Annotated[
        Literal["debug", "info", "warning", "error", "critical"],
        BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value),
    ] = "info"

    @model_validator(mode="after")
    def _has_a_key(self) -> Self:
        if self.clerk_jwt_key is None and self.clerk_secret_key is None:
            raise ValueError(
                "set this or CLERK_SECRET_KEY, so that tokens can be verified "
                "(to try the service without a Clerk account: python -m service sandbox)"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings' signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take the arguments and nothing else, so that a test or the sandbox is not changed by its surroundings."""
        return (init_settings,)


SERVED_BY = frozenset({"host", "port", "log_level"})
"""Settings that say how this service is served. Other programs use these names as well."""


class _EnvironmentSettings(Settings):
    """The same settings, read from the environment first and from ``.env`` in the working directory second."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings' signature
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # `NAME=` means "not set", as in the .env.example that people copy.
        return (
            EnvSettingsSource(settings_cls, env_ignore_empty=True),
            DotEnvSettingsSource(settings_cls, env_file=".env", env_file_encoding="utf-8", env_ignore_empty=True),
        )


class _GuardSettings(_EnvironmentSettings):
    """The settings of a guard in another application. With the service's spool it would deliver the service's lines."""

    event_spool_dir: Annotated[str, Field(min_length=1), AfterValidator(_path)] = "/var/tmp/clerk-logout-guard"  # noqa: S108 - as above

    @model_validator(mode="before")
    @classmethod
    def _leave_out_how_it_is_served(cls, values: dict[str, Any]) -> dict[str, Any]:
        """The application's PORT is not ours to judge."""
        return {name: value for name, value in values.items() if name not in SERVED_BY}


_MESSAGES = {
    "bool_parsing": "must be true or false",
    "int_parsing": "must be a whole number",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
}
"""For pydantic's kinds of problems that have a plainer wording."""


def load_settings(*, for_guard: bool = False) -> Settings:
    """Read the environment and ``.env``.

    Args:
        for_guard: for a guard in another application: HOST, PORT and LOG_LEVEL are that application's, and
            the spool has a default of its own.

    Raises:
        ConfigurationError: a value is missing or unusable; its text names the first such variable.
    """
    try:
        if not for_guard:
            _refuse_workers({**dotenv_values(".env"), **os.environ}.get("WORKERS"))
        return _GuardSettings() if for_guard else _EnvironmentSettings()
    except ValidationError as error:
        raise _first_problem(error) from None
    except UnicodeDecodeError:
        raise ConfigurationError(".env", "is not UTF-8 text") from None
    except OSError as error:
        raise ConfigurationError(".env", f"cannot be read: {error.strerror}") from None


def _refuse_workers(workers: str | None) -> None:
    """WORKERS was a setting once; whoever asks for several processes must hear that there is one."""
    if workers not in {None, "", "1"}:
        raise ConfigurationError(
            "WORKERS", "one process serves; for more, run replicas behind a proxy with one redis:// in REVOCATIONS_URL"
        )


def mistyped_names() -> dict[str, str]:
    """Give the names in the environment and ``.env`` that are nearly a setting's, each with that setting's name."""
    known = [name.upper() for name in Settings.model_fields]
    mistyped = {}
    for name in sorted({*os.environ, *dotenv_values(".env")} - {*known}):
        if meant := get_close_matches(name, known, n=1, cutoff=ALIKE):
            mistyped[name] = meant[0]
    return mistyped


def _first_problem(error: ValidationError) -> ConfigurationError:
    problem = error.errors(include_url=False, include_input=False)[0]
    # The one rule over several fields, "some key is set", has no field of its own.
    variable, *place = problem["loc"] or ("clerk_jwt_key",)
    # The value itself is never shown: it may be a secret that went into the wrong variable.
    entry = f"entry {int(place[0]) + 1} " if place else ""
    text = _MESSAGES.get(problem["type"], "{message}")
    message = problem["msg"].removeprefix("Value error, ")
    return ConfigurationError(str(variable).upper(), entry + text.format(message=message, **problem.get("ctx", {})))

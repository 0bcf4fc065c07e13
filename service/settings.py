"""The settings: one frozen value, validated before anything starts.

``Settings`` holds what it is given; ``load_settings`` reads the environment and ``.env`` for the command line.
"""

import ipaddress
import os
import re
from base64 import b64decode
from difflib import get_close_matches
from typing import Annotated, Literal, Self
from urllib.parse import parse_qsl, urlsplit

from dotenv import dotenv_values
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    HttpUrl,
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

_ORIGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:(?P<port>[1-9][0-9]{0,4}))?")
_ISSUER = re.compile(r"(?P<origin>https?://[^/]+)(/[A-Za-z0-9._~/-]+)?")


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
        raise ValueError("must be https://host without a path (the service adds /v1)")
    if url.username is not None or url.password is not None:
        raise ValueError("must not contain a user name or password; set CLERK_SECRET_KEY instead")
    if url.scheme == "http" and not _is_loopback(str(url.host).strip("[]")):
        raise ValueError(
            "must be https, because the secret key is sent there (http is allowed for loopback addresses only)"
        )
    return str(url).rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _publishable_key(value: str) -> str:
    prefix, host = value[:8], value[8:]
    try:
        is_one = prefix in {"pk_test_", "pk_live_"} and b64decode(host + "==").endswith(b"$")
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError(
            "is not a publishable key; copy the one that starts with pk_test_ or pk_live_ (Clerk dashboard, API keys)"
        )
    return value


def _secret_key(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text.startswith("sk_") or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(
            "is not a Clerk secret key; copy the one that starts with sk_test_ or sk_live_ (Clerk dashboard, API keys)"
        )
    return value


def _signing_secret(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    try:
        key = b64decode(text.removeprefix("whsec_"), validate=True)
    except ValueError:
        key = b""
    if not text.startswith("whsec_") or len(key) < MIN_SIGNING_KEY_BYTES:
        raise ValueError(
            "is not a signing secret; copy the one that starts with whsec_ (Clerk dashboard, Webhooks, your endpoint)"
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
            "must be memory://, redis://user:password@host:6379/0 (rediss:// for TLS) or unix:///path?db=0; "
            "percent-encode special characters in the user name and password"
        )
    try:
        (url.hostname or "").encode("idna")
    except UnicodeError:
        raise ValueError("has an invalid host name; a part of it is empty or longer than 63 characters") from None
    if options - REDIS_OPTIONS or url.fragment:
        raise ValueError(f"the options after ? can be {', '.join(sorted(REDIS_OPTIONS))}; # must be written as %23")
    if is_server and not re.fullmatch(r"/?[0-9]{0,9}", url.path):
        raise ValueError("must end after the port, or with a database number such as /0")
    return value


def _issuer(value: str) -> str:
    """A Frontend API URL as it stands in tokens: an origin, with a path where it is behind a proxy of one's own."""
    value = value.rstrip("/")
    match = _ISSUER.fullmatch(value)
    try:
        _origin(match["origin"] if match else "")
    except ValueError:
        match = None
    if match is None or "/.well-known/" in value:
        raise ValueError("is not an issuer; write the iss of your tokens, such as https://clerk.example.com, no more")
    return value


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
    """What the service is told. Field names are the environment variables' names in lower case."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    clerk_jwt_key: SecretStr | None = None
    """Public key of the Clerk instance, PEM; with it tokens are verified without any network call."""
    clerk_publishable_key: Annotated[str, AfterValidator(_publishable_key)] | None = None
    """Tells the session cookies of this instance from those of other Clerk applications on the same host."""
    clerk_secret_key: Annotated[SecretStr, AfterValidator(_secret_key)] | None = None
    """Backend API key, used to fetch the JWKS when there is no ``clerk_jwt_key``."""
    clerk_api_url: Annotated[str, AfterValidator(_api_url)] = "https://api.clerk.com"
    clerk_authorized_parties: Origins = ()
    """Origins of the frontends: the allowed ``azp`` of a token, and the CORS origins."""
    clerk_azp_required: bool = True
    """Whether the guard and sign out everywhere refuse a token without ``azp``; a logout is recorded in any case."""
    clerk_audience: Annotated[tuple[str, ...], BeforeValidator(_split)] = ()
    """Of these a token's ``aud`` must name one; without any, ``aud`` is not looked at."""
    clerk_issuer: Annotated[tuple[Annotated[str, AfterValidator(_issuer)], ...], BeforeValidator(_split)] = ()
    clerk_clock_skew_seconds: Annotated[int, Field(ge=0, le=60)] = 5
    """Seconds by which the clocks of Clerk and of this machine may differ."""
    clerk_webhook_signing_secret: SigningSecrets = ()
    """Sign Clerk's webhooks, several while one is being replaced; without any none is taken."""
    event_log: Annotated[str, AfterValidator(_event_log)] = "-"
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
    flood_per_session: Annotated[int, Field(ge=0, le=1_000_000)] = 20
    """Calls that one session may have recorded at once, and one more each second; 0 for any number."""
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


SERVED_BY = frozenset({"host", "port", "log_level"})
"""Settings that say how this service is served; in another application these variables are that application's."""
GUARD_SPOOL_DIR = "/var/tmp/clerk-logout-guard"  # noqa: S108 - as above
"""A guard's default: with the service's spool it would deliver the service's lines."""

_MESSAGES = {
    "bool_parsing": "must be true or false",
    "int_parsing": "must be a whole number",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "too_long": "must have at most {max_length} entries",
}
"""For pydantic's kinds of problems that have a plainer wording."""


def load_settings(*, for_guard: bool = False) -> Settings:
    """Read the environment first, and ``.env`` in the working directory second.

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
    """Say which variables are no setting but nearly named as one, one sentence each.

    Raises:
        ConfigurationError: ``.env`` cannot be read.
    """
    return [
        f"{name.upper()} is not a setting and is ignored; did you mean {similar[0].upper()}?"
        for name in sorted(_read_environment().keys() - Settings.model_fields.keys())
        if (similar := get_close_matches(name, Settings.model_fields, n=1, cutoff=SIMILARITY))
    ]


def _read_environment() -> dict[str, str]:
    """Give all variables by their names in lower case. ``NAME=`` means "not set", as in .env.example."""
    try:
        values = dotenv_values(".env", encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigurationError(".env", "is not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise ConfigurationError(".env", f"cannot be read: {error.strerror}") from None
    return {name.lower(): value for source in (values, os.environ) for name, value in source.items() if value}


def _first_problem(error: ValidationError) -> ConfigurationError:
    problem = error.errors(include_url=False, include_input=False)[0]
    # The one rule over several fields, "some key is set", has no field of its own.
    variable, *place = problem["loc"] or ("clerk_jwt_key",)
    # The value itself is never shown: it may be a secret that went into the wrong variable.
    entry = f"entry {int(place[0]) + 1} " if place else ""
    text = _MESSAGES.get(problem["type"], "{message}")
    message = problem["msg"].removeprefix("Value error, ")
    return ConfigurationError(str(variable).upper(), entry + text.format(message=message, **problem.get("ctx", {})))

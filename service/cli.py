"""The command line: ``serve``, ``check``, ``report`` and others. Only here the environment is read."""

import asyncio
import json
import logging
import os
import reprlib
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NoReturn
from urllib.parse import urlsplit

import click
from prometheus_client import disable_created_metrics
from pydantic import SecretStr

from service import __version__
from service.clerk.credentials import read_credentials
from service.clerk.keys import KeyRing, PemKey
from service.clerk.verdict import Auth, Reason, Verdict
from service.convert.command import STANDARDS, convert
from service.endpoints.documents import document
from service.events.asyncapi import asyncapi
from service.events.schemas import schemas
from service.events.spool_command import print_waiting
from service.events.types import timestamp_of
from service.resources import (
    check_clerk_api,
    check_event_log,
    check_spool,
    load_pem_key,
    open_backends,
    verifier_of,
)
from service.revocations.revocation_list import RevocationList, RevocationsUnavailableError
from service.server import listen_on_all
from service.server import serve as run_server
from service.settings import ConfigurationError, Settings, load_settings, mistyped_names
from service.telemetry.diagnostics import configure_logging
from service.telemetry.metrics import Metrics

logger = logging.getLogger("service.cli")

_claims = reprlib.Repr()
_claims.maxstring = 120

_WHEN_NOT_SET = {
    "clerk_publishable_key": "session cookies of any Clerk application are looked at",
    "clerk_secret_key": "sign out everywhere is off",
    "clerk_authorized_parties": "any azp counts, and browsers on other origins cannot call; set it in production",
    "clerk_audience": "aud is not looked at",
    "clerk_issuer": "any iss counts",
    "clerk_webhook_signing_secret": "webhooks are off",
    "reverification_max_age_minutes": "signing out everywhere asks for no fresh proof",
    "forwarded_allow_ips": "no proxy is believed",
}
_WRONG_KEY = (
    "the token is of another key: look whether one is a test and the other a live key, "
    "whether both are of the same Clerk instance, and whether its keys were rotated"
)
_HINTS = {Reason.TOKEN_INVALID_SIGNATURE: _WRONG_KEY, Reason.JWK_KID_MISMATCH: _WRONG_KEY}


def _fail(problem: object) -> NoReturn:
    click.echo(f"clerk-logout: {problem}", err=True)
    sys.exit(2)


class _Commands(click.Group):
    def invoke(self, ctx: click.Context) -> object:
        """Run a command; a setting that cannot be used becomes one line on stderr and exit code 2."""
        try:
            return super().invoke(ctx)
        except ConfigurationError as error:
            _fail(error)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="clerk-logout")
def main() -> None:
    """Record the logouts of applications that use Clerk."""
    _keep_standard_streams()
    disable_created_metrics()  # type: ignore[no-untyped-call]  # no `_created` series beside every counter
    # Libraries that read the settings may have something to say, too.
    configure_logging("warning")


def _keep_standard_streams() -> None:
    """See to it that no file of ours gets the number of a standard stream that is closed."""
    while (number := os.open(os.devnull, os.O_RDWR)) in {0, 1, 2}:
        if number == 1:
            _fail("standard output is closed; redirect it to /dev/null if you do not need it")
    os.close(number)


@main.command()
def serve() -> None:
    """Run the service, configured by environment variables and .env."""
    settings = load_settings()
    for problem in mistyped_names():
        logger.warning(problem)
    run_server(settings)


@main.command()
@click.argument("event", required=False, type=click.Choice(sorted(schemas())))
def schema(event: str | None) -> None:
    """Print the JSON Schema of EVENT, or of all events by name."""
    click.echo(json.dumps(schemas()[event] if event else schemas(), indent=2))


@main.command()
def openapi() -> None:
    """Print the OpenAPI document."""
    click.echo(json.dumps(document(), indent=2))


@main.command("asyncapi")
def print_asyncapi() -> None:
    """Print the events as an AsyncAPI document."""
    click.echo(json.dumps(asyncapi(), indent=2))


@main.command("convert")
@click.option("--to", required=True, type=click.Choice(STANDARDS), help="The standard.")
@click.argument("file", type=click.File("rb"), default="-")
def print_converted(to: str, file: BinaryIO) -> None:
    """Print the events of FILE (or stdin) as OCSF, ECS or OpenTelemetry, one JSON object a line.

    What a standard cannot say is skipped, and what is no event too; stderr says how many of each.
    """
    counts: Counter[str] = Counter()
    sys.stdout.buffer.writelines(convert(file, to, counts))
    sys.stdout.buffer.flush()
    click.echo(f"clerk-logout: {counts.pop('converted', 0)} converted", err=True)
    for name, count in sorted(counts.items()):
        click.echo(f"clerk-logout: {count} skipped: {name}", err=True)


@main.command("spool")
@click.argument("action", type=click.Choice(["show", "drain"]))
@click.argument("directory", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
def print_spool(action: str, directory: Path) -> None:
    """Print the event lines that wait in the spool DIR, and with drain remove them.

    The lines of a process that runs are left alone: it delivers them itself. Nothing is removed before it is written.
    """
    try:
        for sentence in print_waiting(directory, sys.stdout.buffer, drain=action == "drain"):
            click.echo(f"clerk-logout: {sentence}", err=True)
    except OSError as error:
        click.echo(f"clerk-logout: the spool was not printed to its end: {error}", err=True)
        sys.exit(1)


@main.command()
@click.option("--token", metavar="TOKEN", help="Explain the verdict on this session token; - reads it from stdin.")
def check(token: str | None) -> None:
    """Explain the settings, try what they name, and explain why a token is accepted or not.

    Nothing is created, and no secret or token is shown. With --token the port may be in use, by the running service.

    Exit code 0 when all is well; 1 when there are no keys, Redis or the port cannot be used, a variable looks mistyped,
    or the token is not accepted; 2 when a setting is unusable.
    """
    settings = load_settings()
    load_pem_key(settings)
    check_event_log(settings)
    check_spool(settings)
    check_clerk_api(settings)
    mistyped = mistyped_names()
    configure_logging("critical")
    for name in Settings.model_fields:
        click.echo(f"{name.upper()}: {_setting_shown(settings, name)}")
    for problem in mistyped:
        click.echo(f"warning: {problem}")
    sent = None if token is None else sys.stdin.buffer.read() if token == "-" else os.fsencode(token)
    is_well = asyncio.run(_try_out(settings, sent))
    sys.exit(0 if is_well and not mistyped else 1)


@main.command()
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="Port of the service.")
@click.option("--clerk-port", default=8001, show_default=True, type=click.IntRange(0, 65535), help="Port of 'Clerk'.")
@click.option(
    "--packages", type=click.Path(path_type=Path), help="Where clerk-js and ui are unpacked, for `make example`."
)
def sandbox(port: int, clerk_port: int, packages: Path | None) -> None:
    """Run the service with a stand-in for Clerk, on 127.0.0.1 only.

    Tokens are really signed and really verified; only the users are invented. No setting is read.
    """
    try:
        # Here, because only who tries it out needs the stand-in and the HTTP client.
        from service.sandbox.command import run_sandbox  # noqa: PLC0415
    except ModuleNotFoundError as error:
        _fail(f"{error.name} is missing: the production image has no sandbox; run it in the clone")
    with tempfile.TemporaryDirectory(prefix="clerk-logout-") as directory:
        run_sandbox(port, clerk_port, Path(directory), packages)


@main.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@click.option("--html", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="Write a page to FILE.")
@click.option("--since", metavar="TIME", help="Only logouts from then on: 2026-11-21 or 2026-11-21T06:00+01:00.")
@click.option("--until", metavar="TIME", help="Only logouts before then.")
@click.option("--timezone", default="UTC", show_default=True, metavar="ZONE", help="What days and hours are of.")
@click.option("--bad-lines", is_flag=True, help="Print the lines that are no events to stderr, too.")
def report(
    files: tuple[str, ...],
    *,
    as_json: bool,
    html: Path | None,
    since: str | None,
    until: str | None,
    timezone: str,
    bad_lines: bool,
) -> None:
    """Report the logouts in event FILEs: plain or gzip, quoted globs, or - for stdin.

    Exit code 2 when a file cannot be read or none has an event.
    """
    try:
        # Here, because it needs packages that the service does not.
        from service.report.command import report as run_report  # noqa: PLC0415
        from service.report.command import window_of  # noqa: PLC0415
        from service.report.inputs import UnusableInputError  # noqa: PLC0415
    except ModuleNotFoundError as error:
        _fail(f"{error.name} is missing; the report needs: pip install 'clerk-logout[report]'")
    try:
        window = window_of(since, until, timezone)
        run_report(files, window, as_json=as_json, html=html, show_bad_lines=bad_lines)
    except UnusableInputError as error:
        _fail(error)


def _setting_shown(settings: Settings, name: str) -> str:
    value = getattr(settings, name)
    if value in {None, ()}:
        return "not set" + (f" ({_WHEN_NOT_SET[name]})" if name in _WHEN_NOT_SET else "")
    if isinstance(value, SecretStr):
        return value.get_secret_value() if value == Settings.model_fields[name].default else "set"
    if isinstance(value, tuple):
        return ", ".join("set" if isinstance(entry, SecretStr) else entry for entry in value)
    return value if isinstance(value, str) else json.dumps(value)


async def _try_out(settings: Settings, sent: bytes | None) -> bool:
    """Try keys and revocation list, then judge a token with them, or try the port; say whether all is well."""
    async with open_backends(settings, Metrics()) as (_, keys, revocations):
        is_well = await _try_keys(settings, keys)
        is_well = await _try_revocations(settings, revocations) and is_well
        if sent is None:
            return _try_port(settings) and is_well
        # What the endpoint would see, whether the header's value or the token alone was given.
        sent = sent.strip()
        header = sent if sent[:7].lower() == b"bearer " else b"Bearer " + sent
        verdict = await verifier_of(settings, keys, azp_required=settings.clerk_azp_required).verify(
            read_credentials({b"authorization": [header]}).tokens
        )
        click.echo("\n".join(_explain_verdict(verdict)))
        if verdict.auth is not Auth.VERIFIED or verdict.identity is None:
            return False
        is_active = verdict.identity.status == "active"
        return not await _is_signed_out(verdict.identity.session_id, revocations) and is_active and is_well


async def _try_keys(settings: Settings, keys: PemKey | KeyRing) -> bool:
    if isinstance(keys, PemKey):
        click.echo(f"keys: one RSA key of {keys.bits} bits from CLERK_JWT_KEY; Clerk is not asked")
        return True
    if await keys.refresh():
        click.echo(f"keys: fetched from {settings.clerk_api_url}: {', '.join(map(_shown, keys.kids))}")
        return True
    click.echo(f"keys: none could be fetched from {settings.clerk_api_url}: {keys.fetch_problem}")
    return False


async def _try_revocations(settings: Settings, revocations: RevocationList) -> bool:
    for _ in range(4):
        if revocations.problem is not None:
            await asyncio.sleep(0.25)  # the first connection may take longer than any later one, with TLS above all
    url = urlsplit(settings.revocations_url.get_secret_value())
    where = f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}"  # without a password, which may be an option
    click.echo(f"revocation list: {where}; {revocations.problem or 'ok'}")
    if revocations.warning is not None:
        click.echo(f"warning: {revocations.warning}")
    return revocations.problem is None


def _try_port(settings: Settings) -> bool:
    try:
        for listener in listen_on_all(settings.host, settings.port):
            listener.close()
    except ConfigurationError as error:
        click.echo(f"warning: {error}")
        return False
    return True


async def _is_signed_out(session_id: str, revocations: RevocationList) -> bool:
    """Say whether a session is on the shared revocation list; one in memory is the running service's own."""
    try:
        at = await revocations.signed_out_at(session_id)
    except RevocationsUnavailableError:
        return False  # said already
    if at is not None:
        click.echo(f"  signed out: {timestamp_of(at)}, so it is refused (session-revoked)")
    return at is not None


def _explain_verdict(verdict: Verdict) -> Iterator[str]:
    yield f"token: {verdict.auth}" + (f" ({verdict.reason})" if verdict.reason else "")
    if (finding := verdict.finding) is not None:
        yield f"  check:    {finding.check}"
        yield f"  found:    {_shown(finding.found)}"
        yield f"  expected: {finding.expected}"
        if finding.check == "azp" and finding.found is None:
            yield "  hint:     its logout is recorded as verified; CLERK_AZP_REQUIRED=false lets it pass elsewhere too"
    if verdict.reason in _HINTS:
        yield f"  hint:     {_HINTS[verdict.reason]}"
    if (identity := verdict.identity) is not None:
        yield f"  user:     {identity.user_id}"
        yield f"  session:  {identity.session_id}"
        if identity.status != "active":
            yield f"  status:   {_shown(identity.status)}, so the guard refuses it (session-pending)"
        yield f"  organisation: {identity.org_id or 'none'}, actor: {identity.actor_id or 'none'}"


def _shown(value: object) -> str:
    """A claim or header member as one line of printable ASCII."""
    return _claims.repr(value).encode("ascii", "backslashreplace").decode()

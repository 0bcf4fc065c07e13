"""What ``check`` tells: the settings, whether what they name can be used, and why a token is accepted or not."""

import asyncio
import json
import os
import reprlib
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from service.clerk.credentials import read_credentials
from service.clerk.keys import KeyRing, PemKey
from service.clerk.verdict import Auth, Reason, Verdict
from service.events.types import timestamp_of
from service.resources import check_settings, open_backends, open_event_log, verifier_of
from service.revocations.revocation_list import RevocationList, RevocationsUnavailableError
from service.server import listen
from service.settings import ConfigurationError, Settings, mistyped_names
from service.telemetry.metrics import Metrics

Finding = tuple[str, bool]
"""A line, and whether all is well."""

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
_claims = reprlib.Repr()
_claims.maxstring = 120


async def findings(settings: Settings, token: bytes | None) -> AsyncIterator[Finding]:
    """Tell what was found, line by line; no secret or token is shown, and nothing is created.

    Args:
        settings: say what to try.
        token: a session token to judge, or an Authorization header's value; without one the port is tried.

    Raises:
        ConfigurationError: a setting cannot be used.
    """
    check_settings(settings)
    check_event_log(settings)
    for name in Settings.model_fields:
        yield f"{name.upper()}: {_shown_setting(settings, name)}", True
    for problem in mistyped_names():
        yield f"warning: {problem}", False
    async with open_backends(settings, Metrics()) as (_, keys, revocations):
        yield await _keys_found(settings, keys)
        store = revocations.store
        for _ in range(4):
            if store.problem is not None:
                await asyncio.sleep(0.25)  # the first connection may take longer than any later one, with TLS above all
        url = urlsplit(settings.revocations_url.get_secret_value())
        where = f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}"  # a password may be among the options, too
        yield f"revocation list: {where}; {store.problem or 'ok'}", store.problem is None
        if store.warning is not None:
            yield f"warning: {store.warning}", True
        if token is not None:
            async for finding in _token_findings(settings, keys, revocations, token.strip()):
                yield finding
            return
    try:
        for listener in listen(settings.host, settings.port):
            listener.close()
    except ConfigurationError as error:
        yield f"warning: {error}", False


async def _keys_found(settings: Settings, keys: PemKey | KeyRing) -> Finding:
    if isinstance(keys, PemKey):
        return f"keys: one RSA key of {keys.bits} bits from CLERK_JWT_KEY; Clerk is not asked", True
    if await keys.refresh():
        return f"keys: fetched from {settings.clerk_api_url}: {', '.join(map(_shown, keys.by_kid))}", True
    return f"keys: none could be fetched from {settings.clerk_api_url}: {keys.fetch_problem}", False


async def _token_findings(
    settings: Settings, keys: PemKey | KeyRing, revocations: RevocationList, token: bytes
) -> AsyncIterator[Finding]:
    # What the endpoint would see, whether the header's value or the token alone was given.
    header = token if token[:7].lower() == b"bearer " else b"Bearer " + token
    verifier = verifier_of(settings, keys, azp_required=settings.clerk_azp_required)
    verdict = await verifier.verify(read_credentials({b"authorization": [header]}).tokens)
    identity = verdict.identity
    counts = verdict.auth is Auth.VERIFIED and identity is not None and identity.status == "active"
    for line in _explained(verdict):
        yield line, counts
    if verdict.auth is Auth.VERIFIED and identity is not None:
        with suppress(RevocationsUnavailableError):  # said above
            if (at := await revocations.signed_out_at(identity.session_id)) is not None:
                yield f"  signed out: {timestamp_of(at)}, so it is refused (session-revoked)", False


def check_event_log(settings: Settings) -> None:
    """Check that the event log could be opened, without creating it (as another user?) or disturbing who reads it."""
    path = Path(settings.event_log)
    exists = os.path.exists(path)  # noqa: PTH110 - never raises
    if settings.event_log == "-" or (exists and not path.is_fifo()):
        open_event_log(settings).close()
    elif not os.access(path if exists else f"{path.absolute().parent}/.", os.W_OK):
        problem = f"cannot be opened for writing: {path}: no such directory, or this user may not write there"
        raise ConfigurationError("EVENT_LOG", problem)


def _shown_setting(settings: Settings, name: str) -> str:
    value = getattr(settings, name)
    if value in {None, ()}:
        return "not set" + (f" ({_WHEN_NOT_SET[name]})" if name in _WHEN_NOT_SET else "")
    if isinstance(value, SecretStr):
        return value.get_secret_value() if value == Settings.model_fields[name].default else "set"
    if isinstance(value, tuple):
        return ", ".join("set" if isinstance(entry, SecretStr) else entry for entry in value)
    return value if isinstance(value, str) else json.dumps(value)


def _explained(verdict: Verdict) -> Iterator[str]:
    yield f"token: {verdict.auth}" + (f" ({verdict.reason})" if verdict.reason else "")
    if (finding := verdict.finding) is not None:
        yield f"  check:    {finding.check}"
        yield f"  found:    {_shown(finding.found)}"
        yield f"  expected: {finding.expected}"
        if finding.check == "azp" and finding.found is None:
            yield "  hint:     its logout is recorded as verified; CLERK_AZP_REQUIRED=false lets it pass elsewhere too"
    if verdict.reason in {Reason.TOKEN_INVALID_SIGNATURE, Reason.JWK_KID_MISMATCH}:
        yield f"  hint:     {_WRONG_KEY}"
    if (identity := verdict.identity) is not None:
        yield f"  user:     {identity.user_id}"
        yield f"  session:  {identity.session_id}"
        if identity.status != "active":
            yield f"  status:   {_shown(identity.status)}, so the guard refuses it (session-pending)"
        yield f"  organisation: {identity.org_id or 'none'}, actor: {identity.actor_id or 'none'}"


def _shown(value: object) -> str:
    """A claim or header member as one line of printable ASCII."""
    return _claims.repr(value).encode("ascii", "backslashreplace").decode()

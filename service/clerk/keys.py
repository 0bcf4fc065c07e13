"""The public keys that verify session tokens: one given as PEM, or the ring that Clerk publishes."""

import asyncio
import base64
import binascii
import logging
import math
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from types import MappingProxyType
from typing import Any, NoReturn, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey
from joserfc.util import base64_to_int

from service.clerk.errors import ClerkApiError
from service.clerk.verdict import Reason
from service.telemetry.diagnostics import where
from service.telemetry.metrics import Metrics

logger = logging.getLogger("service.keys")

MIN_KEY_BITS = 2048
REFRESH_AFTER = 300.0
"""Seconds between two fetches while they succeed."""
COOL_DOWN = 30.0
"""Seconds between two fetches that tokens with an unknown ``kid`` cause, and from a failed fetch to the next."""
FETCH_TIMEOUT = 2.0
"""Seconds for a whole fetch."""

_PEM = re.compile(r"-----BEGIN PUBLIC KEY-----(.*?)-----END PUBLIC KEY-----", re.DOTALL)

FetchJwks = Callable[[], Awaitable[Iterable[Mapping[str, Any]]]]
"""Fetches the JWKS as JWK dictionaries (RFC 7517, section 4); may raise anything and take any time."""


class Keys:
    """Where the verifier finds the key that a token's ``kid`` names. On its own it has none."""

    by_kid: Mapping[str, RSAPublicKey] = MappingProxyType({})
    """The keys at hand."""
    of_any_kid: RSAPublicKey | None = None
    """Verifies the tokens whose ``kid`` is not among them."""

    async def key_for(self, kid: str, max_wait: float) -> RSAPublicKey | Reason:  # noqa: ARG002 - for those who fetch
        """Return a key that is not at hand, if need be after a fetch that may take so many seconds.

        Else ``JWK_KID_MISMATCH``: there is none, or ``JWK_FAILED_TO_LOAD``: that could not be found out in time.
        """
        return Reason.JWK_KID_MISMATCH


class PemKey(Keys):
    """The key of ``CLERK_JWT_KEY``. It verifies tokens with any ``kid``, as in Clerk's SDKs.

    Raises:
        ValueError: the PEM cannot be used; the text says why, without quoting it.
    """

    problem: None = None

    def __init__(self, pem: str) -> None:
        self.of_any_kid = key = _parse_pem(pem)
        self.bits = key.key_size


class KeyRing(Keys):
    """The keys that Clerk publishes, by ``kid``.

    One fetch at a time: in the background, and at most one per 30 s that an unknown ``kid`` causes. An outage, an empty
    reply or garbage never replaces the last good keys. The clock is monotonic, in seconds.
    """

    def __init__(
        self,
        fetch: FetchJwks,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        metrics: Metrics | None = None,
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._sleep = sleep
        self._attempted_at = self._asked_at = self._as_of = -math.inf
        """When the last fetch began, the last that a token caused, and the last that was good."""
        self._refreshing: asyncio.Task[None] | None = None
        metrics = metrics or Metrics()
        self._fetched_at = metrics.keys_fetched_at
        # Created now, so that a first failure is seen as a change from 0.
        self._good_fetches, self._failed_fetches = (metrics.key_fetches.labels(result) for result in ("ok", "failed"))
        self.fetch_problem: str | None = "not fetched yet"
        """Why the last fetch failed, in one line; None after a good one."""

    @property
    def problem(self) -> str | None:
        """Why no token can be verified, in one line; None while there are keys, however old."""
        return None if self.by_kid else self.fetch_problem

    async def key_for(self, kid: str, max_wait: float) -> RSAPublicKey | Reason:  # noqa: D102 - see Keys
        came_at = self._clock()
        if kid not in self.by_kid and (self._refreshing is not None or came_at - self._asked_at >= COOL_DOWN):
            if self._refreshing is None:
                self._asked_at = came_at
            await asyncio.wait({self._refresh()}, timeout=max_wait)
        if (key := self.by_kid.get(kid)) is not None:
            return key
        # A key that is not in an earlier fetch may have been published since.
        return Reason.JWK_KID_MISMATCH if self._as_of >= came_at else Reason.JWK_FAILED_TO_LOAD

    async def refresh(self) -> bool:
        """Fetch now; return whether that was possible."""
        await asyncio.wait({self._refresh()})
        return self.fetch_problem is None

    @asynccontextmanager
    async def kept_fresh(self) -> AsyncIterator[Self]:
        """Fetch in the background: now, every 5 minutes, 30 s after a failure."""
        keeper = asyncio.create_task(self._keep_fresh(), name="key ring")
        try:
            yield self
        finally:
            tasks = {keeper} if self._refreshing is None else {keeper, self._refreshing}
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _keep_fresh(self) -> NoReturn:
        while True:
            # Requests cause fetches too, which may fail; so look again after each cool-down.
            due = self._attempted_at + (REFRESH_AFTER if self.fetch_problem is None else COOL_DOWN)
            if self._clock() >= due:
                await self.refresh()
            else:
                await self._sleep(min(due - self._clock(), COOL_DOWN))

    def _refresh(self) -> asyncio.Task[None]:
        """Return the fetch that is under way, or a new one."""
        if self._refreshing is None:
            self._attempted_at = self._clock()
            self._refreshing = asyncio.create_task(self._replace_keys(), name="key ring refresh")
        return self._refreshing

    async def _replace_keys(self) -> None:
        problem = None
        try:
            async with asyncio.timeout(FETCH_TIMEOUT):
                keys = _usable(await self._fetch())
            if not keys:
                problem = "the reply holds no RSA signature key of 2048 bits or more"
        except TimeoutError:
            problem = f"no answer within {FETCH_TIMEOUT:g} s"
        except ClerkApiError as error:
            problem = str(error)
        except Exception as error:  # noqa: BLE001 - whatever the fetch does, the last good keys stay
            problem = where(error)
        finally:
            self._refreshing = None
        if problem is not None:
            effect = "the last good keys stay in use" if self.by_kid else "no token can be verified yet"
            logger.warning("keys could not be fetched: %s; %s, next try in %g s", problem, effect, COOL_DOWN)
            self._failed_fetches.inc()
        else:
            if keys.keys() != self.by_kid.keys():
                logger.info("keys loaded: %s", ", ".join(keys))
            elif self.fetch_problem is not None:
                logger.info("fetching keys works again")
            self.by_kid, self._as_of = keys, self._attempted_at
            self._good_fetches.inc()
            self._fetched_at.set_to_current_time()
        self.fetch_problem = problem


def _usable(jwks: Iterable[Mapping[str, Any]]) -> dict[str, RSAPublicKey]:
    """Parse the RSA signature keys of a JWKS, by ``kid``; other keys are skipped. ``use`` and ``alg`` are optional."""
    keys: dict[str, RSAPublicKey] = {}
    for jwk in jwks:
        kid = jwk.get("kid")
        is_rs256 = jwk.get("kty") == "RSA" and jwk.get("use") in (None, "sig") and jwk.get("alg") in (None, "RS256")
        if not is_rs256 or not isinstance(kid, str):
            continue
        try:
            # Measured before the import, because joserfc warns about small keys on its own.
            if base64_to_int(jwk["n"]).bit_length() >= MIN_KEY_BITS:
                keys[kid] = RSAKey.import_key({"kty": "RSA", "n": jwk["n"], "e": jwk["e"]}).public_key
        except (JoseError, KeyError, ValueError, TypeError, AttributeError, UnsupportedAlgorithm):
            logger.warning("a published key cannot be parsed and is ignored")
    return keys


def _parse_pem(pem: str) -> RSAPublicKey:
    r"""Parse a public key, also one in base64; its line breaks may be real, ``\n``, ``\\n``, spaces or missing."""
    if "-----BEGIN" not in pem:
        with suppress(ValueError):
            pem = base64.b64decode(pem).decode()
    if "PRIVATE KEY-----" in pem:
        raise ValueError("contains a private key; use the public key, and keep the private one out of this setting")
    match = _PEM.search(re.sub(r"\\+[rn]", "\n", pem))
    if match is None:
        raise ValueError("is not a PEM public key: -----BEGIN PUBLIC KEY----- … (Clerk dashboard, API keys)")
    try:
        key = load_der_public_key(base64.b64decode("".join(match[1].split()), validate=True))
    except (binascii.Error, ValueError, UnsupportedAlgorithm):
        raise ValueError("is corrupt: the text between BEGIN and END is not a public key") from None
    if not isinstance(key, RSAPublicKey):
        raise ValueError("is not an RSA key; Clerk signs session tokens with RS256")
    if key.key_size < MIN_KEY_BITS:
        raise ValueError(f"has {key.key_size} bits; at least {MIN_KEY_BITS} are required")
    return key

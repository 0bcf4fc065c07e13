"""The public keys that session tokens are verified with: one given as PEM, or the ring that Clerk publishes."""

import asyncio
import base64
import binascii
import logging
import math
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, NoReturn, Protocol, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey
from joserfc.util import base64_to_int

from service.clerk.errors import ClerkApiError, KeysUnavailableError, KeyUnknownError
from service.telemetry.diagnostics import where
from service.telemetry.metrics import Metrics

logger = logging.getLogger("service.keys")

MIN_KEY_BITS = 2048
MAX_KEY_BITS = 16384
MAX_KEYS = 32
MAX_KID_LENGTH = 256
REFRESH_AFTER = 300.0
"""Seconds between two fetches while all is well."""
COOL_DOWN = 30.0
"""Seconds between two fetches at the least, whatever arrives."""
FETCH_DEADLINE = 2.0
"""Seconds for one fetch, from the first byte sent to the last byte read."""

_PEM = re.compile(r"-----BEGIN ([A-Z ]+)-----(.*?)-----END \1-----", re.DOTALL)


class Keys(Protocol):
    """What the verifier asks for a key."""

    def key_at_hand(self, kid: str) -> RSAPublicKey | None:
        """Give the key with this id, if that takes no time; else ``key_for`` says more."""
        ...

    async def key_for(self, kid: str, patience: float) -> RSAPublicKey:
        """Give the key with this id.

        Args:
            kid: the key id that the token names.
            patience: seconds that the caller can wait for a refresh.

        Raises:
            KeyUnknownError: there is no such key.
            KeysUnavailableError: it could not be found out within ``patience``.
        """
        ...


class PemKey:
    """The one key of ``CLERK_JWT_KEY``. It verifies tokens of any ``kid``, as in Clerk's SDKs."""

    problem: None = None
    """There is nothing that could go wrong with it later."""

    def __init__(self, pem: str) -> None:
        """Parse the key once.

        Raises:
            ValueError: its text says what is wrong with the PEM, without quoting it.
        """
        self._key = _parse_pem(pem)
        self.bits = self._key.key_size

    def key_at_hand(self, kid: str) -> RSAPublicKey:  # noqa: ARG002 - see Keys
        """Give the one key."""
        return self._key

    async def key_for(self, kid: str, patience: float) -> RSAPublicKey:  # noqa: ARG002 - see Keys
        """Give the one key."""
        return self._key


FetchJwks = Callable[[], Awaitable[Iterable[Mapping[str, Any]]]]
"""Fetches the JWKS as JWK dictionaries (RFC 7517, section 4); may raise anything and take any time."""


class KeyRing:
    """The keys that Clerk publishes, by ``kid``.

    Fetched in the background, one fetch at a time and at most one per 30 s. The last good keys stay for as long as
    no newer good ones come: an outage, an empty reply or garbage never replaces them.
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
        self._keys: dict[str, RSAPublicKey] = {}
        self._attempted_at = -math.inf
        self._fetch_problem: str | None = "not fetched yet"
        self._refreshing: asyncio.Task[None] | None = None
        metrics = metrics or Metrics()
        # All are made now, so that a first failure is seen as a change from 0.
        self._fetched_at = metrics.keys_fetched_at
        self._good_fetches, self._failed_fetches = (metrics.key_fetches.labels(result) for result in ("ok", "failed"))

    @property
    def kids(self) -> tuple[str, ...]:
        """The ids of the keys at hand."""
        return tuple(self._keys)

    @property
    def fetch_problem(self) -> str | None:
        """Why the last fetch failed, in one line; None after a good one."""
        return self._fetch_problem

    @property
    def problem(self) -> str | None:
        """Why no token can be verified, in one line; None while there are keys, however old."""
        return None if self._keys else self._fetch_problem

    def key_at_hand(self, kid: str) -> RSAPublicKey | None:
        """Give the key with this id, if the ring has it."""
        return self._keys.get(kid)

    async def key_for(self, kid: str, patience: float) -> RSAPublicKey:
        """Give the key with this id; one that is not at hand may cause a refresh, if the cool-down allows it."""
        if (key := self._keys.get(kid)) is not None:
            return key
        if (refresh := self._refresh()) is not None:
            await asyncio.wait({refresh}, timeout=patience)
            if (key := self._keys.get(kid)) is not None:
                return key
        # Only a ring that is up to date can say that there is no such key.
        if self._refreshing is None and self._fetch_problem is None:
            raise KeyUnknownError
        raise KeysUnavailableError

    async def refresh(self) -> bool:
        """Fetch now unless the cool-down forbids it; tell whether the ring is up to date."""
        if (refresh := self._refresh()) is not None:
            await asyncio.wait({refresh})
        return self._fetch_problem is None

    @asynccontextmanager
    async def kept_fresh(self) -> AsyncIterator[Self]:
        """Fetch in the background while the context lasts: now, every 5 minutes, every 30 s after a failure."""
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
            # A request may have caused the last fetch, and it may have failed; so look again at every cool-down.
            due = self._attempted_at + (REFRESH_AFTER if self._fetch_problem is None else COOL_DOWN)
            if self._clock() >= due:
                await self.refresh()
            else:
                await self._sleep(min(due - self._clock(), COOL_DOWN))

    def _refresh(self) -> asyncio.Task[None] | None:
        """The refresh that is under way, or a new one if it is time; else None."""
        if self._refreshing is None and self._clock() - self._attempted_at >= COOL_DOWN:
            self._attempted_at = self._clock()
            self._refreshing = asyncio.create_task(self._replace_keys(), name="key ring refresh")
        return self._refreshing

    async def _replace_keys(self) -> None:
        try:
            async with asyncio.timeout(FETCH_DEADLINE):
                keys = _usable(await self._fetch())
        except TimeoutError:
            self._failed(f"no answer within {FETCH_DEADLINE:g} s")
        except ClerkApiError as error:
            self._failed(str(error))
        except Exception as error:  # noqa: BLE001 - whatever the fetch does, the last good keys stay
            self._failed(where(error))
        else:
            if keys:
                self._succeeded(keys)
            else:
                self._failed("the reply holds no RSA signature key of 2048 bits or more")
        finally:
            self._refreshing = None

    def _succeeded(self, keys: dict[str, RSAPublicKey]) -> None:
        if keys.keys() != self._keys.keys():
            logger.info("keys loaded: %s", ", ".join(keys))
        elif self._fetch_problem is not None:
            logger.info("keys are being refreshed again")
        self._keys = keys
        self._fetch_problem = None
        self._good_fetches.inc()
        self._fetched_at.set_to_current_time()

    def _failed(self, problem: str) -> None:
        kept = "the last good keys stay in use" if self._keys else "no token can be verified yet"
        logger.warning("keys could not be fetched: %s; %s, next try in %g s", problem, kept, COOL_DOWN)
        self._fetch_problem = problem
        self._failed_fetches.inc()


def _usable(jwks: Iterable[Mapping[str, Any]]) -> dict[str, RSAPublicKey]:
    """The RSA signature keys among what was published, parsed, by ``kid``; anything else is passed over."""
    keys: dict[str, RSAPublicKey] = {}
    for jwk in jwks:
        kid = jwk.get("kid")
        if len(keys) == MAX_KEYS:
            logger.warning("more than %d keys are published; the rest is passed over", MAX_KEYS)
            break
        if (jwk.get("kty"), jwk.get("use"), jwk.get("alg")) != ("RSA", "sig", "RS256"):
            continue
        if not isinstance(kid, str) or len(kid) > MAX_KID_LENGTH:
            continue
        try:
            # Measured before it is imported: about a small key joserfc warns past our log.
            if MIN_KEY_BITS <= base64_to_int(jwk["n"]).bit_length() <= MAX_KEY_BITS:
                keys[kid] = RSAKey.import_key({"kty": "RSA", "n": jwk["n"], "e": jwk["e"]}).public_key
        except (JoseError, KeyError, ValueError, TypeError, AttributeError, UnsupportedAlgorithm):
            logger.warning("a published key cannot be parsed and is passed over")
    return keys


def _parse_pem(pem: str) -> RSAPublicKey:
    r"""Parse a public key that may have come through a shell, a ``.env`` file or a dashboard.

    Line breaks may be real, the two characters ``\n``, spaces or missing.
    """
    match = _PEM.search(pem.replace("\\r", "").replace("\\n", "\n"))
    if match is None:
        raise ValueError(
            "is not a PEM public key; it begins with -----BEGIN PUBLIC KEY----- (Clerk dashboard, API keys)"
        )
    label, body = match.groups()
    if "PRIVATE" in label:
        raise ValueError("holds a private key; only the public key belongs here (and the private one nowhere)")
    if label != "PUBLIC KEY":
        raise ValueError(f"holds a {label}, not a PUBLIC KEY; copy the JWKS public key from Clerk's dashboard")
    try:
        key = load_der_public_key(base64.b64decode("".join(body.split()), validate=True))
    except (binascii.Error, ValueError, UnsupportedAlgorithm):
        raise ValueError("is damaged: what stands between BEGIN and END is not a public key") from None
    if not isinstance(key, RSAPublicKey):
        raise ValueError("is not an RSA key; Clerk signs session tokens with RS256")
    if key.key_size < MIN_KEY_BITS:
        raise ValueError(f"has {key.key_size} bits; {MIN_KEY_BITS} is the least")
    return key

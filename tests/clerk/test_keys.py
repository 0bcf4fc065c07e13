"""The PEM key, and the key ring with a fake for Clerk and for time. Over the wire it is in test_backend_api.py."""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from time import monotonic
from time import time as wall_clock
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from service.clerk import keys as keys_module
from service.clerk import verifier as verifier_module
from service.clerk.errors import ClerkApiError
from service.clerk.keys import COOL_DOWN, FETCH_TIMEOUT, REFRESH_AFTER, KeyRing, PemKey
from service.clerk.verdict import Auth, Reason
from service.clerk.verifier import KEY_TIMEOUT, Verifier
from service.telemetry.metrics import Metrics
from tests.support.signing import KID, header, jwk, pem, private_key, token

NEW_KID = "ins_2rotated"


# --- PEM -------------------------------------------------------------------------------------------------------------


EC_KEY = ec.generate_private_key(ec.SECP256R1()).public_key()


@pytest.mark.parametrize("line_break", ["\n", "\\n", "\r\n", " ", ""], ids=repr)
@pytest.mark.parametrize("form", ["{key}", '"{key}"', "CLERK_JWT_KEY={key}# for production", "{key}{second}"])
async def test_a_public_key_is_read_however_it_came_through_the_shell(line_break: str, form: str) -> None:
    key = PemKey(form.format(key=pem().replace("\n", line_break), second=pem(private_key("second"))))
    assert (key.of_any_kid, key.bits) == (private_key().public_key(), 2048)
    assert await key.key_for("any", 0) is Reason.JWK_KID_MISMATCH


PRIVATE_KEY = private_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
REFUSED = {
    "cut off": (pem()[:200], "is not a PEM public key"),
    "certificate": (pem().replace("PUBLIC KEY", "CERTIFICATE"), "is not a PEM public key"),
    "private key": (PRIVATE_KEY, "contains a private key"),
    "private key behind it": (pem() + PRIVATE_KEY, "contains a private key"),
    "EC key": (EC_KEY.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(), "is not an RSA key"),
    "1024 bits": (pem(private_key("small", 1024)), "has 1024 bits; at least 2048 are required"),
    "a strange character": (pem()[:100] + "!" + pem()[100:], "is corrupt"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_unusable_key_is_refused_without_quoting_it(name: str) -> None:
    written, message = REFUSED[name]
    with pytest.raises(ValueError, match=message) as caught:
        PemKey(written)
    text = str(caught.value)
    assert "\n" not in text
    body = "".join(line for line in written.splitlines() if not line.startswith("--"))
    assert not any(body[start : start + 8] in text for start in range(len(body) - 7))


# --- The ring, with fakes --------------------------------------------------------------------------------------------


class FakeClerk:
    """Answers a ring of keys with ``answer``: keys, an error to raise, or nothing until it ``recovers``.

    The ring's clock is ``now``; its sleeps last until the test says so.
    """

    def __init__(self) -> None:
        self.answer: Any = [jwk()]
        self.fetches = 0
        self.asked = asyncio.Event()
        self.recovered = asyncio.Event()
        self.now = 5000.0
        self._naps: asyncio.Queue[float] = asyncio.Queue()
        self._wake = asyncio.Semaphore(0)
        self.metrics = Metrics()
        self.ring = KeyRing(self._fetch, clock=lambda: self.now, sleep=self._sleep, metrics=self.metrics)

    def hangs(self) -> None:
        self.answer = None

    def recovers(self) -> None:
        self.answer = [jwk()]
        self.recovered.set()

    async def pass_nap(self) -> float:
        """Wait for the next sleep, let its time pass, and tell how long it was."""
        seconds = await self._naps.get()
        self.now += seconds
        self._wake.release()
        return seconds

    async def _fetch(self) -> Iterable[Mapping[str, Any]]:
        self.fetches += 1
        self.asked.set()
        if self.answer is None:
            await self.recovered.wait()
        if isinstance(self.answer, BaseException):
            raise self.answer
        keys: Iterable[Mapping[str, Any]] = self.answer
        return keys

    async def _sleep(self, seconds: float) -> None:
        self._naps.put_nowait(seconds)
        await self._wake.acquire()


@pytest.fixture
def clerk() -> FakeClerk:
    return FakeClerk()


@pytest.mark.parametrize("answer", [[jwk()], ClerkApiError("down")], ids=["up", "down"])
async def test_a_flood_of_unknown_kids_causes_one_fetch_per_cool_down(clerk: FakeClerk, answer: object) -> None:
    clerk.answer = answer
    for later, fetches in ((0, 1), (COOL_DOWN - 0.001, 1), (0.001, 2)):
        clerk.now += later
        for number in range(100):
            await clerk.ring.key_for(f"ins_{number}", max_wait=1)
        assert clerk.fetches == fetches
    assert COOL_DOWN == 30


async def test_a_concurrent_flood_of_unknown_kids_shares_one_fetch(clerk: FakeClerk) -> None:
    """And one request that goes away does not take it with it."""
    clerk.hangs()
    flood = [asyncio.create_task(clerk.ring.key_for(f"ins_{number}", max_wait=60)) for number in range(1000)]
    await clerk.asked.wait()
    flood.pop(0).cancel()
    clerk.recovers()
    await asyncio.wait(flood)
    assert {task.result() for task in flood} == {Reason.JWK_KID_MISMATCH}
    assert (clerk.fetches, [*clerk.ring.by_kid]) == (1, [KID])


async def test_neither_old_keys_nor_a_forged_token_cause_a_fetch(clerk: FakeClerk) -> None:
    await clerk.ring.refresh()
    clerk.now += 86_400
    assert (await Verifier(clerk.ring).verify([token().encode()])).auth is Auth.VERIFIED
    forged = token(key=private_key("attacker"))
    for sent in (forged, "ak_9f8e7d6c5b4a", "a.b.c", token(head=header(kid=5)), token(head=header(alg="none"))):
        assert (await Verifier(clerk.ring).verify([sent.encode()])).auth is Auth.REJECTED
    assert clerk.fetches == 1


async def test_a_key_published_right_after_a_fetch_is_found_at_once(clerk: FakeClerk) -> None:
    await clerk.ring.refresh()
    clerk.answer = [jwk(NEW_KID, private_key("rotated"))]
    verdict = await Verifier(clerk.ring).verify([token(head=header(kid=NEW_KID), key=private_key("rotated")).encode()])
    assert (verdict.auth, clerk.fetches) == (Auth.VERIFIED, 2)
    clerk.now += COOL_DOWN
    assert await clerk.ring.key_for(KID, max_wait=1) is Reason.JWK_KID_MISMATCH


async def test_an_unknown_kid_is_rejected_only_after_a_later_fetch(clerk: FakeClerk) -> None:
    """Where the one fetch of such tokens is used up, nobody can say."""
    verdicts = []
    for later in (0, 1, COOL_DOWN - 1.5, 0.5):
        clerk.now += later
        verdict = await Verifier(clerk.ring).verify([token(head=header(kid="ins_other")).encode()])
        verdicts.append((verdict.auth, verdict.reason))
    unknown, undecided = (Auth.REJECTED, Reason.JWK_KID_MISMATCH), (Auth.UNVERIFIABLE, Reason.JWK_FAILED_TO_LOAD)
    assert verdicts == [unknown, undecided, undecided, unknown]
    assert clerk.fetches == 2


async def test_what_joins_a_fetch_that_began_earlier_is_not_rejected_by_it(clerk: FakeClerk) -> None:
    clerk.hangs()
    refresh = asyncio.create_task(clerk.ring.refresh())
    await clerk.asked.wait()
    clerk.now += 0.1
    asked = asyncio.create_task(clerk.ring.key_for(NEW_KID, max_wait=60))
    await asyncio.sleep(0)
    clerk.recovers()
    await refresh
    assert await asked is Reason.JWK_FAILED_TO_LOAD


# --- Replies that must not replace good keys -------------------------------------------------------------------------


@pytest.mark.parametrize("value", [..., None], ids=["left out", "null"])
async def test_use_and_alg_of_a_key_are_optional(value: object, clerk: FakeClerk) -> None:
    """As in RFC 7517, sections 4.2 and 4.4."""
    key = jwk() | {"use": value, "alg": value}
    clerk.answer = [{name: member for name, member in key.items() if member is not ...}]
    assert await clerk.ring.refresh()


@pytest.mark.parametrize(
    "reply",
    [
        *([], "keys", [{}], ClerkApiError("down"), TimeoutError(), KeyError("no")),
        [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "k", "use": "sig", "alg": "ES256"}],
        [jwk("k", key=private_key("small", 1024))],
        *([jwk("k", use="enc")], [jwk("k", alg="RS512")], [jwk("k") | {"kid": 5}]),
        *([jwk("k", n=None)], [jwk("k", n="!!")], [jwk("k", n=5)], [jwk("k", e="AQ")]),
    ],
)
async def test_a_bad_reply_or_an_error_never_replaces_good_keys(reply: object, clerk: FakeClerk) -> None:
    await clerk.ring.refresh()
    clerk.answer = reply
    clerk.now += COOL_DOWN
    assert not await clerk.ring.refresh()
    assert (await Verifier(clerk.ring).verify([token().encode()])).auth is Auth.VERIFIED
    assert await clerk.ring.key_for("k", max_wait=1) is Reason.JWK_FAILED_TO_LOAD


# --- What the ring tells ---------------------------------------------------------------------------------------------


async def test_loading_failing_and_recovering_are_told_once_each(
    clerk: FakeClerk, caplog: pytest.LogCaptureFixture
) -> None:
    """In one log line, and a count. Only without any key does a problem stop the service from being ready."""
    caplog.set_level(logging.INFO, logger="service.keys")
    problems = [(clerk.ring.problem, clerk.ring.fetch_problem)]
    for clerk.answer in (ClerkApiError("down"), [jwk()], [jwk()], [], [jwk()]):
        await clerk.ring.refresh()
        problems.append((clerk.ring.problem, clerk.ring.fetch_problem))
        clerk.now += COOL_DOWN
    failed, no_key = "keys could not be fetched: ", "the reply holds no RSA signature key of 2048 bits or more"
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", f"{failed}down; no token can be verified yet, next try in 30 s"),
        ("INFO", f"keys loaded: {KID}"),
        ("WARNING", f"{failed}{no_key}; the last good keys stay in use, next try in 30 s"),
        ("INFO", "fetching keys works again"),
    ]
    good = (None, None)
    assert problems == [("not fetched yet",) * 2, ("down",) * 2, good, good, (None, no_key), good]
    value = clerk.metrics.registry.get_sample_value
    counts = [value("clerk_logout_key_fetches_total", {"result": result}) for result in ("ok", "failed")]
    assert counts == [3, 2]
    assert value("clerk_logout_keys_fetched_timestamp_seconds") == pytest.approx(wall_clock(), abs=60)


# --- An endpoint that hangs ------------------------------------------------------------------------------------------


async def test_a_hanging_endpoint_costs_a_request_no_more_than_it_can_wait(
    clerk: FakeClerk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the number of its tokens; a second, here, of which a slow machine makes no three."""
    assert KEY_TIMEOUT == 0.25
    monkeypatch.setattr(verifier_module, "KEY_TIMEOUT", 1.0)
    clerk.hangs()
    tokens = [token(head=header(kid=f"ins_{number}")).encode() for number in range(4)]
    started = monotonic()
    assert (await Verifier(clerk.ring).verify(tokens)).reason is Reason.JWK_FAILED_TO_LOAD
    assert 0.9 <= monotonic() - started < 3


async def test_a_fetch_is_given_up_after_two_seconds(clerk: FakeClerk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert FETCH_TIMEOUT == 2
    monkeypatch.setattr(keys_module, "FETCH_TIMEOUT", 0.01)
    clerk.hangs()
    assert not await clerk.ring.refresh()
    assert clerk.ring.fetch_problem == "no answer within 0.01 s"


# --- In the background -----------------------------------------------------------------------------------------------


async def test_the_ring_is_filled_at_start_and_then_every_5_minutes(clerk: FakeClerk) -> None:
    async with clerk.ring.kept_fresh():
        naps = [await clerk.pass_nap() for _ in range(10)]
        assert [*clerk.ring.by_kid] == [KID]
        assert (sum(naps), clerk.fetches) == (REFRESH_AFTER, 1)
        await clerk.pass_nap()
        assert clerk.fetches == 2


async def test_a_cold_start_without_clerk_recovers_by_itself(clerk: FakeClerk) -> None:
    verifier = Verifier(clerk.ring)
    clerk.answer = ClerkApiError("down")
    async with clerk.ring.kept_fresh():
        assert (await verifier.verify([token().encode()])).auth is Auth.UNVERIFIABLE
        assert await clerk.pass_nap() == 30
        clerk.answer = [jwk()]
        assert (await verifier.verify([token().encode()])).auth is Auth.VERIFIED
    assert clerk.fetches == 2


async def test_a_failure_that_a_request_caused_is_retried_after_30_s(clerk: FakeClerk) -> None:
    async with clerk.ring.kept_fresh():
        await clerk.pass_nap()
        await clerk.pass_nap()
        clerk.answer = ClerkApiError("down")
        await clerk.ring.key_for(NEW_KID, max_wait=1)
        clerk.answer = [jwk()]
        await clerk.pass_nap()
        await clerk.pass_nap()
        assert (clerk.fetches, clerk.ring.fetch_problem) == (3, None)


@pytest.mark.parametrize("moment", ["at once", "while fetching", "while sleeping"])
async def test_leaving_leaves_no_task_behind(moment: str, clerk: FakeClerk) -> None:
    before = asyncio.all_tasks()
    if moment == "while fetching":
        clerk.hangs()
    async with clerk.ring.kept_fresh():
        if moment == "while fetching":
            await clerk.asked.wait()
        if moment == "while sleeping":
            await clerk.pass_nap()
    assert asyncio.all_tasks() == before

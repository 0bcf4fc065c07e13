"""What is remembered, for how long, and that nobody can fill it."""

import pytest

from service.clerk.remembered import RememberingVerifier
from service.clerk.verdict import ABSENT, Auth, Identity, Reason, Verdict

NOW = 1_790_000_000


class FakeVerifier:
    """Gives a verdict by the token's first word, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    async def verify_one(self, token: bytes, patience: float) -> Verdict:
        del patience
        self.asked.append(token)
        auth, _, expires_at = token.partition(b" ")
        if auth in {b"verified", b"expired"}:
            identity = Identity("user_1", token.decode(), expires_at=int(expires_at.split()[0]))
            return Verdict(Auth(auth.decode()), None if auth == b"verified" else Reason.TOKEN_EXPIRED, identity)
        return ABSENT if auth == b"absent" else Verdict(Auth(auth.decode()), Reason.TOKEN_INVALID)


class Clock:
    def __init__(self) -> None:
        self.now: float = NOW

    def __call__(self) -> float:
        return self.now


class Tried:
    """A remembering verifier with what it stands on."""

    def __init__(self, most: int = 100) -> None:
        self.verifier = FakeVerifier()
        self.clock = Clock()
        self.remembering = RememberingVerifier(self.verifier, most=most, clock=self.clock)

    async def use(self, *tokens: str) -> int:
        """Have tokens verified; give how many of them were really verified."""
        self.verifier.asked.clear()
        for token in tokens:
            await self.remembering.verify_one(token.encode(), 0.25)
        return len(self.verifier.asked)


def verified(number: int = 0, *, expires: int = NOW + 60) -> str:
    return f"verified {expires} {number}"


async def test_a_verified_token_is_verified_once() -> None:
    tried = Tried()
    assert await tried.use(*[verified()] * 3) == 1


@pytest.mark.parametrize(("later", "verifications"), [(59.999, 0), (60, 1)])
async def test_a_token_that_lives_long_is_remembered_for_a_minute(later: float, verifications: int) -> None:
    """Whoever stole a key that is withdrawn since may have written any ``exp`` into it."""
    tried = Tried()
    await tried.use(verified(expires=NOW + 30 * 24 * 3600))
    tried.clock.now += later
    assert await tried.use(verified(expires=NOW + 30 * 24 * 3600)) == verifications


async def test_the_verdict_is_the_same_again() -> None:
    tried = Tried()
    first, second = [await tried.remembering.verify_one(verified().encode(), 0.25) for _ in range(2)]
    assert first == second
    assert first.identity == Identity("user_1", verified(), expires_at=NOW + 60)


async def test_another_token_of_the_same_session_is_verified_by_itself() -> None:
    tried = Tried()
    assert await tried.use(verified(1), verified(2)) == 2


@pytest.mark.parametrize(
    ("later", "verifications"),
    [
        pytest.param(59.999, 0, id="until exp"),
        pytest.param(60, 1, id="not at exp"),
        pytest.param(62, 1, id="not within the leeway"),
    ],
)
async def test_a_token_is_remembered_until_its_exp_and_not_a_second_longer(later: float, verifications: int) -> None:
    tried = Tried()
    await tried.use(verified())
    tried.clock.now += later
    assert await tried.use(verified()) == verifications


async def test_a_token_that_is_verified_within_the_leeway_is_not_remembered() -> None:
    tried = Tried()
    assert await tried.use(*[verified(expires=NOW - 2)] * 3) == 3
    assert len(tried.remembering) == 0


@pytest.mark.parametrize("auth", [auth.value for auth in Auth if auth is not Auth.VERIFIED])
async def test_no_other_verdict_is_remembered(auth: str) -> None:
    tried = Tried()
    assert await tried.use(*[f"{auth} {NOW + 60}"] * 3) == 3
    assert len(tried.remembering) == 0


async def test_beyond_the_bound_the_oldest_is_forgotten() -> None:
    tried = Tried(most=3)
    await tried.use(*map(verified, range(5)))
    assert len(tried.remembering) == 3
    assert await tried.use(verified(2), verified(3), verified(4)) == 0
    assert await tried.use(verified(0)) == 1


async def test_what_strangers_send_pushes_nothing_out() -> None:
    tried = Tried(most=2)
    await tried.use(verified(1), verified(2))
    await tried.use(*(f"rejected {number}" for number in range(100)))
    assert await tried.use(verified(1), verified(2)) == 0


async def test_what_has_expired_is_forgotten_when_another_token_comes() -> None:
    tried = Tried()
    await tried.use(*map(verified, range(50)))
    tried.clock.now += 60
    await tried.use(verified(expires=NOW + 120))
    assert len(tried.remembering) == 1


async def test_the_token_itself_is_not_kept() -> None:
    remembering = RememberingVerifier(AnyToken(), clock=Clock())
    token = b"eyJ.secret.token"
    await remembering.verify_one(token, 0.25)
    assert len(remembering) == 1
    assert token.decode() not in repr(vars(remembering))


class AnyToken:
    """Takes every token for good, and keeps none."""

    async def verify_one(self, token: bytes, patience: float) -> Verdict:
        del token, patience
        return Verdict(Auth.VERIFIED, None, Identity("user_1", "sess_1", expires_at=NOW + 60))

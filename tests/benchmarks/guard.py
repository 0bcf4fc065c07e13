"""What the guard adds to somebody's application, on tokens that it has seen before."""

from collections.abc import Callable

from tests.benchmarks import tokens
from tests.benchmarks.checks import WrongError, ask
from tests.benchmarks.contenders import application
from tests.benchmarks.drive import Load
from tests.benchmarks.growth import Group, section
from tests.benchmarks.report import Section
from tests.benchmarks.rounds import Variant, interleaved
from tests.benchmarks.running import Bench

LINE = "GET /orders"
BARE, GUARDED = "bare Starlette", "behind the guard"


def guard(rounds: int, seconds: int, progress: Callable[[str], None]) -> Section:
    """Measure it.

    Raises:
        WrongError: it let somebody in whom it must not.
        StartError: something did not start.
    """
    with Bench() as bench:
        return section(GROUP, interleaved(_variants(bench, seconds), rounds, progress))


def _variants(bench: Bench, seconds: int) -> list[Variant]:
    load = Load(bench.requests(tokens.valid(), line=LINE), seconds=seconds)
    bare, guarded = bench.start(application(BARE, "bare")), bench.start(application(GUARDED, "guarded"))
    check_guard(guarded.port)
    return [Variant(each.name, each, load, expected=None) for each in (bare, guarded)]


def check_guard(port: int) -> None:
    """See that it lets in the good ones only.

    Raises:
        WrongError: it does not.
    """
    for kind, make in tokens.KINDS.items():
        status = ask(port, make()[0], line=LINE)
        if status != (200 if kind == "verified" else 401):
            raise WrongError(f"{GUARDED}: a token that is {kind} got {status}")


GROUP = Group(
    "Guard",
    "One JSON route, without and with SessionGuard (memory://). It verifies each token once a minute and remembers it.",
    _variants,
    {GUARDED: (BARE, 1.3)},
)

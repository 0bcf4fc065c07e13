"""How the cost of a request grows with one thing at a time. The first variant of each group is what the others face."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from tests.benchmarks import load
from tests.benchmarks.contenders import application, limit, service
from tests.benchmarks.measure import Variant, cost_ratio, interleaved, medians
from tests.benchmarks.report import Section, Target
from tests.benchmarks.running import Bench
from tests.benchmarks.verdicts import check_guard
from tests.faults.troubled_clerk import TroubledClerk
from tests.support.redis_server import redis_server
from tests.support.signing import jwk, private_key

ORDERS = "GET /orders"
BARE, GUARDED = "bare Starlette", "behind the guard"


@dataclass(frozen=True, slots=True)
class Group:
    """Variants that differ in one thing.

    Attributes:
        variants: starts what is needed and gives them.
        at_most: the target for a variant's cost, by its label: as a part of which other one's, and how large a part.
        beside: whose processor time stands in a column of its own.
    """

    title: str
    text: str
    variants: Callable[[Bench], list[Variant]]
    at_most: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    beside: str | None = None


def grow(group: Group, rounds: int) -> Section:
    with Bench() as bench:
        runs = interleaved(group.variants(bench), rounds)
    first = next(iter(runs.values()))
    rows = []
    for label, of_one in runs.items():
        figures = medians(of_one)
        row = [label, f"{figures.cost:.1f}", str(cost_ratio(of_one, first)), f"{figures.rate:,.0f}"]
        row += [f"{figures.p50 / 1000:.2f}", f"{figures.p99 / 1000:.2f}"]
        rows.append(row + ([f"{figures.beside:.1f}"] if group.beside else []))
    targets = [
        Target.ratio(f"processor time, {label} against {base}", cost_ratio(runs[label], runs[base]), most)
        for label, (base, most) in group.at_most.items()
    ]
    head = ["", "µs/request", "against the first", "requests/s", "p50 ms", "p99 ms"]
    head += [f"{group.beside}, µs/request"] if group.beside else []
    return Section(group.title, group.text, head, rows, targets)


def _guard(bench: Bench) -> list[Variant]:
    orders = bench.load(load.verified(), line=ORDERS)
    bare, guarded = bench.start(application(BARE, "bare")), bench.start(application(GUARDED, "guarded"))
    check_guard(GUARDED, guarded.port, ORDERS)
    return [Variant(each.name, each, orders, expected=None) for each in (bare, guarded)]


def _connections(bench: Bench) -> list[Variant]:
    running, valid = bench.start(service()), bench.load(load.verified())
    return [
        Variant("1 connection" if count == 1 else f"{count:,} connections", running, replace(valid, connections=count))
        for count in (1, 8, 64, 512, 2000)
    ]


def _headers(bench: Bench) -> list[Variant]:
    return [
        Variant(f"{each.name}, {kind} headers", each, bench.load(load.verified(), headers))
        for each in [bench.start(service()), bench.start(limit())]
        for kind, headers in (("bare", load.BARE), ("browser", load.BROWSER))
    ]


def _sizes(bench: Bench) -> list[Variant]:
    running = bench.start(service())
    sets = [load.verified(size=size) for size in (0, 2000, 7000)]
    return [Variant(f"{len(each[0]) / 1000:.1f} KB", running, bench.load(each)) for each in sets]


def _keys(bench: Bench) -> list[Variant]:
    variants = [Variant("CLERK_JWT_KEY", bench.start(service()), bench.load(load.verified()))]
    for count in (1, 16):
        ring = {f"ins_2bench{number}": private_key(f"bench {number}") for number in range(count)}
        clerk = bench.enter_context(TroubledClerk())
        clerk.keys = [jwk(kid, key) for kid, key in ring.items()]
        last, key = list(ring.items())[-1]
        label = f"ring of {count} key{'s' * (count > 1)}"
        signed = bench.load(load.verified(kid=last, key=key))
        variants.append(Variant(label, bench.start(service(label, changes=clerk.settings)), signed))
    return variants


def _revocations(bench: Bench) -> list[Variant]:
    valid = bench.load(load.verified())
    redis = bench.enter_context(redis_server())
    (line,) = [line for line in redis.do("INFO", "server").splitlines() if line.startswith("process_id:")]
    with_redis = bench.start(service(changes={"REVOCATIONS_URL": redis.url}))
    return [
        Variant("memory://", bench.start(service(changes={"REVOCATIONS_URL": "memory://"})), valid),
        Variant("redis://", with_redis, valid, beside=int(line.removeprefix("process_id:"))),
    ]


def _verdicts(bench: Bench) -> list[Variant]:
    loads = {kind: bench.load(make()) for kind, make in load.KINDS.items()}
    recording = bench.start(service(changes={"FLOOD_PER_SECOND": "1000000"}))
    shipped = bench.start(service(changes={"FLOOD_PER_SESSION": ""}))
    replayed = bench.load(load.expired()[:1])
    return [
        *(Variant(kind, recording, sent, expected=kind) for kind, sent in loads.items()),
        Variant("absent, suppressed", shipped, loads["absent"], "absent", suppressed=True),
        Variant("rejected, suppressed", shipped, loads["rejected"], "rejected", suppressed=True),
        Variant("one expired token, suppressed", shipped, replayed, "expired", suppressed=True),
    ]


GROUPS = {
    "guard": Group(
        "Guard",
        "One JSON route, without and with SessionGuard (memory://). It verifies each token once a minute and remembers "
        "it.",
        _guard,
        {GUARDED: (BARE, 1.3)},
    ),
    "connections": Group(
        "Connections",
        "Open at once, each with one request under way; opening them is part of the cost.",
        _connections,
        {"2,000 connections": ("1 connection", 1.3)},
    ),
    "headers": Group("Headers", "Authorization only, and all that Chromium sends.", _headers),
    "sizes": Group("Token size", "Larger by a claim of the application's own.", _sizes),
    "keys": Group("Keys", "A key in CLERK_JWT_KEY, and rings as Clerk publishes them; the last key has signed.", _keys),
    "revocations": Group("Revocation list", "REVOCATIONS_URL.", _revocations, beside="Redis"),
    "verdicts": Group(
        "Verdicts",
        "Tokens of each kind; absent is a call without one. Each is recorded (FLOOD_PER_SECOND=1000000, "
        "FLOOD_PER_SESSION=0), except where flood control as shipped suppresses most lines.",
        _verdicts,
        dict.fromkeys(
            ("absent", "rejected", "absent, suppressed", "rejected, suppressed", "one expired token, suppressed"),
            ("verified", 1.0),
        ),
    ),
}

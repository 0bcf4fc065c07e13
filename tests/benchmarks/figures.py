"""Figures of runs, their medians, and ratios between runs of the same round."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from statistics import median


@dataclass(frozen=True, slots=True)
class Figures:
    """One run, or the medians of several.

    Attributes:
        rate: responses per second.
        cost: processor time per request, in microseconds.
        p50: of the times until the response, in microseconds, as are the others.
        p99: likewise.
        p999: likewise.
        beside: processor time of another process per request, such as Redis, in microseconds.
    """

    rate: float
    cost: float
    p50: float
    p99: float
    p999: float
    beside: float = 0


def medians(runs: Sequence[Figures]) -> Figures:
    """Give the median of each figure by itself."""
    return Figures(*(median(getattr(run, field.name) for run in runs) for field in fields(Figures)))


@dataclass(frozen=True, slots=True)
class Ratio:
    """How much more one costs than another: the median over the rounds, and how far they lie apart."""

    median: float
    lowest: float
    highest: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.lowest:.2f} to {self.highest:.2f})"


def cost_ratio(ours: Sequence[Figures], theirs: Sequence[Figures]) -> Ratio:
    """Compare processor time per request, each round by itself: what slows the machine for a while slows both."""
    ratios = [one.cost / other.cost for one, other in zip(ours, theirs, strict=True)]
    return Ratio(median(ratios), min(ratios), max(ratios))

"""Sections and targets, as Markdown."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import click

_started = time.monotonic()


def progress(text: str) -> None:
    click.echo(f"{time.monotonic() - _started:6.0f} s  {text}", err=True)


@dataclass(frozen=True, slots=True)
class Ratio:
    """How much more one costs than another: the median over the rounds, and how far they lie apart."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, ratios: Sequence[float]) -> "Ratio":
        return cls(median(ratios), min(ratios), max(ratios))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.lowest:.2f} to {self.highest:.2f})"


@dataclass(frozen=True, slots=True)
class Target:
    what: str
    measured: str
    at_most: str
    holds: bool

    @classmethod
    def ratio(cls, what: str, ratio: Ratio, at_most: float) -> "Target":
        """Give the target for a ratio; its median counts."""
        return cls(what, str(ratio), f"{at_most:.2f}", ratio.median <= at_most)


@dataclass(frozen=True, slots=True)
class Section:
    """One table, and the targets that it decides."""

    title: str
    text: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    targets: Sequence[Target] = ()

    def markdown(self) -> str:
        return f"## {self.title}\n\n{self.text}\n\n{table(self.head, self.rows)}"


def document(preface: str, sections: Sequence[Section]) -> str:
    """Give the whole report: how it was measured, the targets, the tables."""
    targets = [
        [target.what, target.measured, target.at_most, "holds" if target.holds else "**does not hold**"]
        for section in sections
        for target in section.targets
    ]
    decided = table(["target", "measured", "at most", ""], targets)
    parts = ["# What a logout costs", preface, "## Targets", decided, *(section.markdown() for section in sections)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Give a Markdown table; the first column holds words, the others figures."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [head, rule, *rows])

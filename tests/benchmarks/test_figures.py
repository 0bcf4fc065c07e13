from pathlib import Path

from tests.benchmarks.contenders import limit
from tests.benchmarks.drive import Load
from tests.benchmarks.figures import Figures, cost_ratio, medians
from tests.benchmarks.report import Section, Target, document
from tests.benchmarks.rounds import Variant, ordered
from tests.benchmarks.running import Running
from tests.benchmarks.verdicts import LogFile


def run(cost: float, rate: float = 1.0) -> Figures:
    return Figures(rate, cost, 1, 2, 3)


def test_each_figure_has_its_own_median() -> None:
    assert medians([run(1, 30), run(3, 10), run(2, 20)]) == run(2, 20)


def test_a_ratio_compares_runs_of_the_same_round() -> None:
    ratio = cost_ratio([run(1), run(20), run(9)], [run(2), run(20), run(10)])
    assert str(ratio) == "0.90 (0.50 to 1.00)"


def test_the_order_changes_from_round_to_round_and_is_the_same_in_each_benchmark() -> None:
    path = Path("unused")
    running = Running(limit(), 0, 0, LogFile(path))
    variants = [Variant(label, running, Load(path)) for label in "abc"]
    orders, again = (["".join(each.label for each in ordered(variants, number)) for number in range(7)] for _ in "12")
    assert orders == again
    assert len(set(orders)) > 3
    assert {"".join(sorted(order)) for order in orders} == {"abc"}


def test_the_report_says_which_targets_hold() -> None:
    ratio = cost_ratio([run(1)], [run(2)])
    targets = [Target.ratio("half", ratio, 0.5), Target.ratio("less", ratio, 0.4)]
    text = document("How.", [Section("Costs", "Of all.", ["", "µs"], [["it", "1.0"]], targets)])
    assert "| half | 0.50 (0.50 to 0.50) | 0.50 | holds |\n" in text
    assert "| less | 0.50 (0.50 to 0.50) | 0.40 | **does not hold** |\n" in text
    assert "## Costs\n\nOf all.\n\n|  | µs |\n| --- | ---: |\n| it | 1.0 |\n" in text

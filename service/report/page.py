"""The report as one page of HTML: it needs no network, and follows the reader's light or dark."""

from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from service.report.charts import coverage_by_day, logouts_by_day, logouts_by_hour
from service.report.figures import Figures
from service.report.tables import TOLD_BY, Table, period, tables, tiles

_ABOUT = {
    "Coverage": "A logout is told of by your frontend's call, by Clerk's webhook, or by both. Without a webhook, Clerk "
    "did not confirm it; without a call, it happened elsewhere, or the call was lost.",
    "How sure": "The verdict says what a call's token proves. An expired token proves who, but not when.",
}


def write_page(figures: Figures, path: Path) -> None:
    """Write the page of a report's figures to a file."""
    template = Template((files(__package__) / "page.html").read_text("utf-8"))
    path.write_text(template.substitute(period=escape(period(figures)), body="\n".join(_body(figures))), "utf-8")


def _body(figures: Figures) -> Iterator[str]:
    days, hours = figures["logouts_by_day"], figures["logouts_by_hour"]
    yield f"<h1>Logouts</h1><p class='muted'>{escape(period(figures))}</p>"
    shown = (f"<div class='tile'><b>{value}</b><span>{what}</span></div>" for value, what in tiles(figures))
    yield f"<div class='tiles'>{''.join(shown)}</div>"
    for section, members in tables(figures).items():
        yield f"<h2>{section}</h2><p class='muted'>{_ABOUT.get(section, '')}</p><div class='cards'>"
        for table in members:
            match table.title:
                case "By day":
                    yield _card(table.title, _legend() + logouts_by_day(days) + _folded(table))
                case "By hour of the day":
                    yield _card(table.title, logouts_by_hour(hours) + _folded(table))
                case "Who told of the logouts":
                    yield _card(
                        table.title, _stack([sum(each) for each in zip(*table.bars, strict=True)]) + _table(table)
                    )
                    yield _card("Told of by one only", _legend("call", "webhook") + coverage_by_day(days))
                case _:
                    yield _card(table.title, _table(table))
        yield "</div>"
    yield "<p class='note'>A logout is one session that ended; it belongs to the earlier of the call and Clerk's end. "
    yield "docs/data.md of clerk-logout says what each figure means.</p>"


def _card(title: str, content: str) -> str:
    return f"<section class='card'><h3>{escape(title)}</h3>{content}</section>"


def _folded(table: Table) -> str:
    return f"<details><summary>Figures</summary>{_table(table)}</details>"


def _legend(*names: str) -> str:
    items = (f"<li><i class='{name}'></i>{TOLD_BY[name]}</li>" for name in names or TOLD_BY)
    return f"<ul class='legend'>{''.join(items)}</ul>"


def _table(table: Table) -> str:
    note = f"<p class='note'>{escape(table.note)}</p>" if table.note else ""
    if not table.rows:
        return f"<p class='muted'>None.</p>{note}"
    longest = max(map(sum, table.bars), default=0) or 1
    head = "".join(
        f"<th{' class=number' if number else ''}>{escape(name)}</th>" for number, name in enumerate(table.head)
    )
    lines = [f"<tr>{head}{'<th class=bar></th>' if table.bars else ''}</tr>"]
    for place, (name, *numbers) in enumerate(table.rows):
        cells = f"<td>{escape(name)}</td>" + "".join(f"<td class='number'>{number}</td>" for number in numbers)
        bar = f"<td class='bar'>{_stack(table.bars[place], longest)}</td>" if table.bars else ""
        lines.append(f"<tr>{cells}{bar}</tr>")
    kind = " class='told'" if len(table.head) > len(TOLD_BY) else ""
    return f"<div class='scroll'><table{kind}>{''.join(lines)}</table></div>{note}"


def _stack(lengths: Sequence[int], whole: int | None = None) -> str:
    """Draw lengths beside each other, as shares of a whole."""
    whole = whole or sum(lengths) or 1
    parts = (
        f"<div class='{name}' style='width:{part / whole:.2%}'></div>"
        for name, part in zip(TOLD_BY, lengths, strict=False)
    )
    return f"<div class='stack'>{''.join(parts)}</div>"

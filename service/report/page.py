"""The report as one page of HTML: it needs no network, and follows the reader's light or dark."""

from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import vl_convert

from service.report.database import Figures, Row
from service.report.tables import TOLD_BY, Table, period, tables, tiles

_CONFIG = {
    "background": "transparent",
    "font": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--muted)",
        "labelFontSize": 14,
        "labelPadding": 6,
        "gridColor": "var(--line)",
        "domainColor": "var(--line)",
        "ticks": False,
        "title": None,
    },
}
_COLORS = {"domain": list(TOLD_BY.values()), "range": [f"var(--{name})" for name in TOLD_BY]}
_COUNT_AXIS = {"format": "~s", "tickCount": 4, "tickMinStep": 1, "domain": False}
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
                    yield _card(table.title, _legend() + _logouts_by_day(days) + _folded(table))
                case "By hour of the day":
                    yield _card(table.title, _logouts_by_hour(hours) + _folded(table))
                case "Who told of the logouts":
                    yield _card(
                        table.title, _stack([sum(each) for each in zip(*table.bars, strict=True)]) + _table(table)
                    )
                    yield _card("Told of by one only", _legend("call", "webhook") + _coverage_by_day(days))
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


def _logouts_by_day(rows: Sequence[Row]) -> str:
    """Columns of logouts, stacked by who told of them."""
    values = [
        {"day": row["day"], "told_by": told_by, "order": order, "logouts": row[f"told_by_{name}"]}
        for row in rows
        for order, (name, told_by) in enumerate(TOLD_BY.items())
    ]
    return _svg(values, "bar", _day(rows), {"field": "logouts", "type": "quantitative", "axis": _COUNT_AXIS})


def _coverage_by_day(rows: Sequence[Row]) -> str:
    """Lines of the share of logouts that only one of the two told of."""
    values = [
        {"day": row["day"], "told_by": TOLD_BY[name], "order": 0, "share": row[f"told_by_{name}"] / row["logouts"]}
        for row in rows
        for name in ("call", "webhook")
    ]
    axis = {"format": ".0%", "tickCount": 4, "domain": False}
    scale = {"domainMin": 0, "nice": True}
    share = {"field": "share", "type": "quantitative", "axis": axis, "scale": scale}
    mark = {"type": "line", "point": {"size": 50}, "strokeWidth": 2.5}
    return _svg(values, mark, _day(rows), share)


def _logouts_by_hour(rows: Sequence[Row]) -> str:
    """Columns of logouts, for all 24 hours of the day."""
    found = {row["hour"]: row["logouts"] for row in rows}
    values = [
        {"hour": hour, "told_by": TOLD_BY["both"], "order": 0, "logouts": found.get(hour, 0)} for hour in range(24)
    ]
    axis = {"labelAngle": 0, "values": [*range(0, 24, 3)], "labelExpr": "datum.value + ':00'", "grid": False}
    hours = {"field": "hour", "type": "ordinal", "axis": axis}
    return _svg(values, "bar", hours, {"field": "logouts", "type": "quantitative", "axis": _COUNT_AXIS})


def _day(rows: Sequence[Row]) -> Row:
    axis = {"format": "%-d %b", "labelAngle": 0, "labelOverlap": True, "grid": False}
    kind = "ordinal" if len(rows) <= 60 else "temporal"  # a column a day while that is wide enough to be seen  # noqa: PLR2004
    return {"field": "day", "type": kind, "timeUnit": "utcyearmonthdate", "axis": axis}


def _svg(values: list[Row], mark: str | Row, x: Row, y: Row) -> str:
    color = {"field": "told_by", "type": "nominal", "scale": _COLORS, "legend": None}
    specification: dict[str, Any] = {
        "data": {"values": values},
        "width": 480,
        "height": 230,
        "autosize": {"type": "fit", "contains": "padding"},
        "mark": mark,
        "encoding": {"x": x, "y": y, "color": color, "order": {"field": "order"}},
        "config": _CONFIG,
    }
    return vl_convert.vegalite_to_svg(specification)

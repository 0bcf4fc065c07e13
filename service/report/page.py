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
_X_AXIS = {"labelAngle": 0, "labelOverlap": True, "labelSeparation": 12, "grid": False}
_Y_AXES = {
    "logouts": {"format": "~s", "tickMinStep": 1, "tickCount": 4, "domain": False},
    "share": {"format": ".0%", "tickCount": 4, "domain": False},
}
_DAYS = 60
"""As many have a column each that is wide enough to be seen."""
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
    yield f"<h1>Logouts</h1><p class='muted'>{escape(period(figures))}</p>"
    yield "<div class='tiles'>"
    yield from (f"<div class='tile'><b>{value}</b><span>{what}</span></div>" for value, what in tiles(figures))
    yield "</div>"
    charts = _charts(figures)
    for section, members in tables(figures).items():
        yield f"<h2>{section}</h2><p class='muted'>{_ABOUT.get(section, '')}</p><div class='cards'>"
        for table in members:
            shown = _table(table)
            if section == "When":
                shown = f"<details><summary>Figures</summary>{shown}</details>"
            yield f"<section class='card'><h3>{table.title}</h3>{charts.get(table.title, '')}{shown}</section>"
        yield "</div>"
    yield "<p class='note'>A logout is one session that ended; it belongs to the earlier of the call and Clerk's end. "
    yield "docs/data.md of clerk-logout says what each figure means.</p>"


def _charts(figures: Figures) -> dict[str, str]:
    """Draw what lies under some tables, by their titles: logouts by day and by hour, and the shares of one only."""
    days = figures["logouts_by_day"]
    by_hour = {row["hour"]: row["logouts"] for row in figures["logouts_by_hour"]}
    day_axis = {
        "field": "day",
        "type": "ordinal" if len(days) <= _DAYS else "temporal",
        "timeUnit": "utcyearmonthdate",
        "axis": _X_AXIS | {"format": "%-d %b"},
    }
    hour_axis = {"field": "hour", "type": "ordinal", "axis": _X_AXIS}
    by_day = [
        {
            "day": row["day"],
            "told_by": text,
            "logouts": row[f"told_by_{name}"],
            "share": row[f"told_by_{name}"] / row["logouts"],
        }
        for row in days
        for name, text in TOLD_BY.items()
    ]
    hours = [
        {"hour": f"{hour:02d}:00", "told_by": TOLD_BY["both"], "logouts": by_hour.get(hour, 0)} for hour in range(24)
    ]
    by_one = [value for value in by_day if value["told_by"] != TOLD_BY["both"]]
    line = {"type": "line", "point": {"size": 50}, "strokeWidth": 2.5}
    return {
        "By day": _legend(*TOLD_BY) + _svg("bar", day_axis, "logouts", by_day),
        "By hour of the day": _svg("bar", hour_axis, "logouts", hours),
        "Who told of the logouts": _legend("call", "webhook") + _svg(line, day_axis, "share", by_one),
    }


def _svg(mark: str | Row, x: Row, y: str, values: list[Row]) -> str:
    specification: dict[str, Any] = {
        "data": {"values": values},
        "width": 480,
        "height": 230,
        "autosize": {"type": "fit", "contains": "padding"},
        "mark": mark,
        "encoding": {
            "x": x,
            "y": {"field": y, "type": "quantitative", "axis": _Y_AXES[y]},
            "color": {"field": "told_by", "type": "nominal", "scale": _COLORS, "legend": None},
            "order": {"field": "told_by"},
        },
        "config": _CONFIG,
    }
    return vl_convert.vegalite_to_svg(specification)


def _legend(*names: str) -> str:
    items = (f"<li><i class='{name}'></i>{TOLD_BY[name]}</li>" for name in names)
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


def _stack(lengths: Sequence[int], whole: int) -> str:
    """Draw lengths beside each other, as shares of a whole."""
    parts = zip(TOLD_BY, lengths, strict=False)
    drawn = (f"<div class='{name}' style='width:{part / whole:.2%}'></div>" for name, part in parts)
    return f"<div class='stack'>{''.join(drawn)}</div>"

"""The charts of the page: Vega-Lite specifications, drawn as SVG in the page's own colours."""

from collections.abc import Sequence
from typing import Any

import vl_convert

from service.report.database import Row
from service.report.tables import TOLD_BY

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


def logouts_by_day(rows: Sequence[Row]) -> str:
    """Columns of logouts, stacked by who told of them."""
    values = [
        {"day": row["day"], "told_by": told_by, "order": order, "logouts": row[f"told_by_{name}"]}
        for row in rows
        for order, (name, told_by) in enumerate(TOLD_BY.items())
    ]
    return _svg(values, "bar", _day(rows), {"field": "logouts", "type": "quantitative", "axis": _COUNT_AXIS})


def coverage_by_day(rows: Sequence[Row]) -> str:
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


def logouts_by_hour(rows: Sequence[Row]) -> str:
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

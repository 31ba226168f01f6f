"""Plots of growth as SVG files, drawn with the charts of the admin."""

from __future__ import annotations

import re
from collections.abc import Iterable

from django.utils.html import escape

import benchmarks.configured  # noqa: F401  before the app
from benchmarks.report import Row, number
from trajectories.admin.charts import Layer, Step, line

_TONES = ("a", "b", "c", "d", "e")
_STYLE = """
svg { background: #fff; color: #444; font: 12px sans-serif }
text { fill: currentColor } .tj-hit { fill: none } .tj-rule { stroke: #ddd } .tj-line { fill: none; stroke-width: 2 }
.a { stroke: #2b6cb0; fill: #2b6cb0 } .b { stroke: #b3261e; fill: #b3261e } .c { stroke: #1b7f4d; fill: #1b7f4d }
.d { stroke: #8250df; fill: #8250df } .e { stroke: #6b7280; fill: #6b7280 } .tj-line { fill: none } .legend { stroke: none }
@media (prefers-color-scheme: dark) { svg { background: #0d1117; color: #c9d1d9 } .tj-rule { stroke: #30363d } }
"""
_WIDTH, _HEIGHT, _LEGEND = 480, 190, 16


def plot(rows: Iterable[Row]) -> str:
    """Draw rows over their ``x``: a line for each series, and one for each anchor.

    The steps of the horizontal axis are the measured sizes, at equal distances.

    Raises:
        ValueError: there are no rows, or more lines than colours.
    """
    rows = list(rows)
    steps = sorted({row.x for row in rows})
    unit = rows[0].unit if rows else ""
    series: dict[str, dict[int, float]] = {}
    anchors: dict[str, dict[int, float]] = {}
    for row in rows:
        series.setdefault(row.series, {})[row.x] = row.value
        if row.anchor_value is not None:
            anchors.setdefault(row.anchor, {})[row.x] = row.anchor_value
    found = series | anchors
    if not 0 < len(found) <= len(_TONES):
        raise ValueError(f"A plot needs 1 to {len(_TONES)} lines, got {len(found)}.")
    layers = [
        Layer(tone, name, [values.get(x) for x in steps])
        for tone, (name, values) in zip(_TONES, found.items(), strict=False)  # fewer lines than colours
    ]
    drawn = str(line([Step(f"{x:,}") for x in steps], layers, lambda value: f"{number(value)} {unit}"))
    inside = re.sub(r"^<svg[^>]*>|</svg>$", "", drawn)
    height = _HEIGHT + _LEGEND * len(layers)
    legend = "".join(
        f'<text class="{layer.tone} legend" x="58" y="{_HEIGHT + _LEGEND * at + 10}">{escape(layer.name)}</text>'
        for at, layer in enumerate(layers)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}">'
        f"<style>{_STYLE}</style>{inside}{legend}</svg>\n"
    )

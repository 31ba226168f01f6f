"""The regret curves of replays as one SVG file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 720, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 40, 44
_POINTS = 240


def regret_svg(curves: Sequence[Sequence[float]], title: str, baselines: Mapping[str, float] | None = None) -> str:
    """Return an SVG document: a thin line for each curve, a thick one for their mean, a band from
    the 10th to the 90th percentile, and a dashed line for each baseline.

    Args:
        curves: regret after each run, of equal length, at least one.
        baselines: regret per run of an action that is always chosen, by its name.
    """
    size = len(curves[0])
    columns = [sorted(column) for column in zip(*curves, strict=True)]
    mean = [sum(column) / len(curves) for column in columns]
    bounds = [[column[round(share * (len(curves) - 1))] for column in columns] for share in (0.1, 0.9)]
    fixed = {name: [slope * (at + 1) for at in range(size)] for name, slope in (baselines or {}).items()}
    drawn = [*curves, *fixed.values()]
    low, high = min(0.0, *(min(curve) for curve in drawn)), max(1e-9, *(max(curve) for curve in drawn))

    def x(at: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * at / max(1, size - 1)

    def y(value: float) -> float:
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * (value - low) / (high - low)

    places = sorted({*range(0, size, max(1, size // _POINTS)), size - 1})

    def points(curve: Sequence[float], at: Sequence[int]) -> str:
        return " ".join(f"{x(place):.1f},{y(curve[place]):.1f}" for place in at)

    def line(curve: Sequence[float], style: str) -> str:
        return f'<polyline points="{points(curve, places)}" fill="none" {style}/>'

    ticks = [low + (high - low) * share / 4 for share in range(5)]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-family="sans-serif"'
        ' font-size="12">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="22" font-size="14">{escape(title)}</text>',
    ]
    for tick in ticks:
        parts.append(f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:.3g}</text>')
    parts.append(f'<polygon points="{points(bounds[0], places)} {points(bounds[1], places[::-1])}" fill="#dbe6f3"/>')
    parts += [line(curve, 'stroke="#9db7d5" stroke-width="1"') for curve in curves]
    for name, curve in fixed.items():
        parts.append(line(curve, 'stroke="#8a4b08" stroke-width="1.5" stroke-dasharray="5 4"'))
        parts.append(
            f'<text x="{WIDTH - _RIGHT - 4}" y="{y(curve[-1]) - 5:.1f}" text-anchor="end" fill="#8a4b08">{escape(name)}</text>'
        )
    parts.append(line(mean, 'stroke="#1f5fa8" stroke-width="3"'))
    for share in range(5):
        at = (size - 1) * share / 4
        parts.append(f'<text x="{x(at):.1f}" y="{HEIGHT - 24}" text-anchor="middle">{round(at) + 1}</text>')
    middle = (WIDTH + _LEFT) / 2
    parts.append(f'<text x="{middle:.0f}" y="{HEIGHT - 6}" text-anchor="middle">runs</text>')
    return "\n".join([*parts, "</svg>", ""])

"""The regret curves of replays as one SVG file."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 720, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 40, 44
_POINTS = 240


def regret_svg(curves: Sequence[Sequence[float]], title: str) -> str:
    """Return an SVG document: a thin line for each curve, and a thick one for their mean.

    Args:
        curves: regret after each run, of equal length, at least one.
    """
    size = len(curves[0])
    mean = [sum(column) / len(curves) for column in zip(*curves, strict=True)]
    low, high = min(0.0, *(min(curve) for curve in curves)), max(1e-9, *(max(curve) for curve in curves))

    def x(at: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * at / max(1, size - 1)

    def y(value: float) -> float:
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * (value - low) / (high - low)

    def line(curve: Sequence[float], style: str) -> str:
        step = max(1, size // _POINTS)
        places = sorted({*range(0, size, step), size - 1})
        points = " ".join(f"{x(at):.1f},{y(curve[at]):.1f}" for at in places)
        return f'<polyline points="{points}" fill="none" {style}/>'

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
    parts += [line(curve, 'stroke="#9db7d5" stroke-width="1"') for curve in curves]
    parts.append(line(mean, 'stroke="#1f5fa8" stroke-width="3"'))
    for share in range(5):
        at = (size - 1) * share / 4
        parts.append(f'<text x="{x(at):.1f}" y="{HEIGHT - 24}" text-anchor="middle">{round(at) + 1}</text>')
    middle = (WIDTH + _LEFT) / 2
    parts.append(f'<text x="{middle:.0f}" y="{HEIGHT - 6}" text-anchor="middle">runs</text>')
    return "\n".join([*parts, "</svg>", ""])

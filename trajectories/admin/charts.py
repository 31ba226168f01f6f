"""Pictures: pure functions from numbers to SVG, which is safe HTML.

No picture has an inline style or a script; classes of ``admin.css`` colour it. A picture is hidden
from screen readers and its links from the tab order, because a table with the same numbers and
links stands under each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

_WIDTH, _HEIGHT = 480, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 470, 12, 164
_LABEL_HEIGHT = 14
_CHAR_WIDTH = 6.4
"""Mean width of a character of a label, in units of the picture."""

Text = Callable[[float], str]
Scale = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class Layer:
    """One series of a picture over time: a class that colours it, its name, a value per step."""

    tone: str
    name: str
    values: Sequence[float | None]


class Step(NamedTuple):
    """One step of the time axis. ``href`` leads to the runs of the step; empty is no link."""

    label: str
    href: str = ""


class Point(NamedTuple):
    """A point of a scatter. ``y`` is a rate, ``low`` and ``high`` its interval."""

    label: str
    x: float
    y: float
    low: float
    high: float
    title: str
    href: str = ""


def columns(steps: Sequence[Step], layers: Sequence[Layer], text: Text) -> SafeString:
    """Draw columns over time, the layers stacked. ``text`` formats a value of the axis."""
    totals = [sum(layer.values[at] or 0 for layer in layers) for at in range(len(steps))]
    top = _ceiling(max(totals, default=0))
    width = (_RIGHT - _LEFT) / max(1, len(steps))
    marks = []
    for at, step in enumerate(steps):
        base, parts, titles = float(_BOTTOM), [_hit(at, len(steps))], []
        for layer in layers:
            value = layer.values[at]
            if not value:
                continue
            height = value / top * (_BOTTOM - _TOP)
            base -= height
            parts.append(_rect(_LEFT + at * width + width * 0.12, base, width * 0.76, height, f"tj-fill {layer.tone}"))
            titles.append(f"{layer.name} {text(value)}")
        if titles:
            marks.append(_linked(step.href, f"{step.label}: {', '.join(titles)}", _joined(parts)))
    return _svg([*_axes(steps, top, text), *marks])


def line(
    steps: Sequence[Step], layers: Sequence[Layer], text: Text, *, band: Sequence[Layer] = (), unit: float = 1
) -> SafeString:
    """Draw lines over time. Unknown values are left out; a line passes over them.

    Args:
        band: the lower and the upper edge of an area behind the lines; all of them are rates then.
        unit: the axis ends at a round number of these.
    """
    highest = max((value for layer in layers for value in layer.values if value is not None), default=0)
    top = 1.0 if band else _ceiling(highest / unit) * unit
    marks: list[SafeString] = []
    if band:
        lower, upper = (_path(layer.values, len(steps), top) for layer in band)
        if len(lower) > 1:
            marks.append(format_html('<polygon class="tj-band" points="{}"/>', _points(lower + upper[::-1])))
    for layer in layers:
        places = _path(layer.values, len(steps), top)
        marks.append(format_html('<polyline class="tj-line {}" points="{}"/>', layer.tone, _points(places)))
    for at, step in enumerate(steps):
        known_here = [(layer, value) for layer in layers if (value := layer.values[at]) is not None]
        dots = [_dot(layer.tone, *_place(at, value, len(steps), top)) for layer, value in known_here]
        title = ", ".join(f"{layer.name} {text(value)}" for layer, value in known_here)
        if dots:
            marks.append(_linked(step.href, f"{step.label}: {title}", _joined([_hit(at, len(steps)), *dots])))
    return _svg([*_axes(steps, top, text), *marks])


def scatter(points: Sequence[Point], x_text: Text, y_text: Text) -> SafeString:
    """Draw points with their intervals, and the Pareto front of low ``x`` and high ``y`` as steps."""
    scale = _XScale.of([point.x for point in points])
    floor, ceiling = _bounds(points)

    def place(y: float) -> float:
        return _y(y - floor, ceiling - floor)

    ticks = [floor + (ceiling - floor) * part / 4 for part in range(5)]
    marks = [
        *(mark for y in ticks for mark in _gridline(place(y), y_text(y))),
        *(_axis_text(scale(x), "middle", x_text(x)) for x in scale.ticks),
    ]
    best = front(points)
    if best:
        marks.append(format_html('<polyline class="tj-front" points="{}"/>', _points(_steps(best, scale, place))))
    for point, (x, y) in zip(points, _labelled(points, scale, place), strict=True):
        drawn = format_html(
            '<line class="tj-whisker" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/><circle class="tj-dot {3}" cx="{0}" cy="{4}" r="5"/>'
            '<text class="tj-label" x="{5}" y="{6}" text-anchor="middle">{7}</text>',
            _n(scale(point.x)),
            _n(place(point.low)),
            _n(place(point.high)),
            "tj-best" if point in best else "tj-other",
            _n(place(point.y)),
            _n(x),
            _n(y),
            point.label,
        )
        marks.append(_linked(point.href, point.title, drawn))
    return _svg(marks)


def _bounds(points: Sequence[Point]) -> tuple[float, float]:
    """Return a range of rates in steps of a fifth that holds every interval."""
    low, high = min((point.low for point in points), default=0), max((point.high for point in points), default=1)
    floor, ceiling = math.floor(low * 5) / 5, math.ceil(high * 5) / 5
    return (floor, ceiling) if ceiling > floor else (0.0, 1.0)


def front(points: Sequence[Point]) -> list[Point]:
    """Return the points than which no other costs less and succeeds more, by cost."""
    best: list[Point] = []
    for point in sorted(points, key=lambda point: (point.x, -point.y)):
        if not best or point.y > best[-1].y:
            best.append(point)
    return best


def bar(share: float | None, tone: str = "tj-main") -> SafeString:
    """Draw a horizontal bar for a table cell; ``share`` of the full width, from 0 to 1."""
    if share is None:
        return mark_safe("")
    width = _n(100 * min(1.0, max(0.0, share)))
    return format_html(
        '<svg class="tj-meter" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="tj-track" x="0" y="0" width="100" height="10"/>'
        '<rect class="tj-fill {}" x="0" y="0" width="{}" height="10"/></svg>',
        tone,
        width,
    )


def interval(rate: float | None, low: float | None, high: float | None) -> SafeString:
    """Draw a rate from 0 to 1 with its interval, for a table cell."""
    if rate is None or low is None or high is None:
        return mark_safe("")
    return format_html(
        '<svg class="tj-meter" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="tj-track" x="0" y="4" width="100" height="2"/>'
        '<rect class="tj-range" x="{}" y="2" width="{}" height="6"/>'
        '<rect class="tj-tick" x="{}" y="0" width="1.5" height="10"/></svg>',
        _n(100 * low),
        _n(max(0.5, 100 * (high - low))),
        _n(min(98.5, max(0.0, 100 * rate - 0.75))),
    )


# Axes and shapes.


def _axes(steps: Sequence[Step], top: float, text: Text) -> Iterator[SafeString]:
    for share in (0, 0.5, 1):
        yield from _gridline(_y(share, 1), text(share * top))
    last = len(steps) - 1
    shown = {0: "start", last // 2: "middle", last: "end"} if last > 1 else dict.fromkeys(range(last + 1), "middle")
    for at, anchor in shown.items():
        x = {"start": _LEFT, "end": _RIGHT}.get(anchor, _LEFT + (at + 0.5) * (_RIGHT - _LEFT) / len(steps))
        yield _axis_text(x, anchor, steps[at].label)


def _axis_text(x: float, anchor: str, text: str) -> SafeString:
    return format_html(
        '<text class="tj-axis" x="{}" y="{}" text-anchor="{}">{}</text>', _n(x), _BOTTOM + 18, anchor, text
    )


def _gridline(y: float, text: str) -> Iterator[SafeString]:
    yield format_html('<line class="tj-rule" x1="{}" x2="{}" y1="{}" y2="{}"/>', _LEFT, _RIGHT, _n(y), _n(y))
    yield format_html('<text class="tj-axis" x="{}" y="{}" text-anchor="end">{}</text>', _LEFT - 6, _n(y + 4), text)


def _y(value: float, top: float) -> float:
    return _BOTTOM - value / top * (_BOTTOM - _TOP)


def _place(at: int, value: float, steps: int, top: float) -> tuple[float, float]:
    return _LEFT + (at + 0.5) * (_RIGHT - _LEFT) / steps, _y(value, top)


def _path(values: Sequence[float | None], steps: int, top: float) -> list[tuple[float, float]]:
    return [_place(at, value, steps, top) for at, value in enumerate(values) if value is not None]


def _points(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{_n(x)},{_n(y)}" for x, y in places)


def _steps(best: Sequence[Point], scale: _XScale, place: Scale) -> list[tuple[float, float]]:
    places: list[tuple[float, float]] = []
    for point in best:
        x, y = scale(point.x), place(point.y)
        places += [(x, places[-1][1]), (x, y)] if places else [(x, y)]
    return [*places, (_RIGHT, places[-1][1])]


def _hit(at: int, steps: int) -> SafeString:
    """Return an area that is not drawn, as high as the picture: a thin mark is hard to point at."""
    width = (_RIGHT - _LEFT) / steps
    return _rect(_LEFT + at * width, _TOP, width, _BOTTOM - _TOP, "tj-hit")


def _dot(tone: str, x: float, y: float) -> SafeString:
    return format_html('<circle class="tj-dot {}" cx="{}" cy="{}" r="3"/>', tone, _n(x), _n(y))


def _rect(x: float, y: float, width: float, height: float, classes: str) -> SafeString:
    return format_html(
        '<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>',
        classes,
        _n(x),
        _n(y),
        _n(width),
        _n(max(0.75, height)),
    )


def _linked(href: str, title: str, drawn: SafeString) -> SafeString:
    if not href:
        return format_html("<g><title>{}</title>{}</g>", title, drawn)
    return format_html('<a href="{}" tabindex="-1"><title>{}</title>{}</a>', href, title, drawn)


def _joined(parts: Sequence[SafeString]) -> SafeString:
    return format_html_join("", "{}", ((part,) for part in parts))


def _svg(parts: Sequence[SafeString]) -> SafeString:
    return format_html(
        '<svg class="tj-chart" viewBox="0 0 {} {}" aria-hidden="true" focusable="false">{}</svg>',
        _WIDTH,
        _HEIGHT,
        _joined(parts),
    )


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _ceiling(value: float) -> float:
    """Return the next round number, for the top of an axis."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.2, 1.6, 2, 3, 4, 5, 6, 8, 10) if step * power >= value * 0.999)


@dataclass(frozen=True, slots=True)
class _XScale:
    """The horizontal axis of a scatter: logarithmic where costs differ by more than tenfold."""

    low: float
    high: float
    ticks: tuple[float, ...]
    is_log: bool

    @classmethod
    def of(cls, values: Sequence[float]) -> _XScale:
        low, high = min(values, default=0), max(values, default=1)
        if low <= 0 or high / low <= 10:
            top = _ceiling(high * 1.05)
            return cls(0, top, (0, top / 2, top), is_log=False)
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        low, high = low / 1.6, high * 1.6
        marks = [step * 10.0**power for power in powers for step in (1, 3) if low <= step * 10.0**power <= high]
        return cls(low, high, tuple(marks[:: max(1, len(marks) // 4)]), is_log=True)

    def __call__(self, value: float) -> float:
        measure = math.log if self.is_log else float
        low = measure(self.low)
        share = (measure(value) - low) / (measure(self.high) - low)
        return _LEFT + share * (_RIGHT - _LEFT)


def _labelled(points: Sequence[Point], scale: _XScale, place: Scale) -> list[tuple[float, float]]:
    """Return the middle of each label: above its interval, and above every earlier label there."""
    taken: list[tuple[float, float, float]] = []
    found = []
    for point in points:
        half = len(point.label) * _CHAR_WIDTH / 2
        x, y = min(max(scale(point.x), _LEFT + half), _WIDTH - half), place(point.high) - 6
        while any(abs(y - other) < _LABEL_HEIGHT and abs(x - at) < half + wide for at, wide, other in taken):
            y -= _LABEL_HEIGHT
        taken.append((x, half, y))
        found.append((x, y))
    return found
